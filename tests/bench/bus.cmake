# A bus call against a raw round trip; run by hand or by the bench level, not by ctest.
add_executable(bench_bus EXCLUDE_FROM_ALL bench/bench_bus.c)
target_link_libraries(bench_bus PRIVATE atl_io atl_pure atl_flags)
