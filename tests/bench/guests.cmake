# Fills a node's tree for bench_node.py.
add_executable(bench_guests EXCLUDE_FROM_ALL bench/bench_guests.c)
target_link_libraries(bench_guests PRIVATE atl_store_client atl_io atl_proto atl_pure atl_flags)
set_target_properties(bench_guests PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
