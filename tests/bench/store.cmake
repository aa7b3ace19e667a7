# config-store against its engine and a plain bus call; run by hand or by the bench level, not by ctest.
if(TARGET cfg_fixture)
  add_executable(bench_store EXCLUDE_FROM_ALL bench/bench_store.c)
  target_link_libraries(bench_store PRIVATE cfg_fixture config_store_engines atl_pure atl_flags)
endif()
