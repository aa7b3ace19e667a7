# Built on demand: ninja bench_codec
add_executable(bench_codec EXCLUDE_FROM_ALL ${CMAKE_CURRENT_LIST_DIR}/bench_codec.c)
target_link_libraries(bench_codec PRIVATE atl_pure atl_flags)
