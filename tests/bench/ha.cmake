# Built on demand: ninja bench_ha
if(TARGET ha_crm_core)
  add_executable(bench_ha EXCLUDE_FROM_ALL ${CMAKE_CURRENT_LIST_DIR}/bench_ha.c)
  target_link_libraries(bench_ha PRIVATE ha_crm_core atl_io atl_flags)
endif()
