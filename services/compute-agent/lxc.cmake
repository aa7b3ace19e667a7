# Containers: a core of their own, their part of the agent, and the two helper programs.
file(GLOB lxc_core CONFIGURE_DEPENDS core/lxc_*.c core/ct_*.c)
file(GLOB lxc_shell CONFIGURE_DEPENDS lxc*.c ct_*.c node*.c drivers/lxc*.c)
pkg_check_modules(LXC REQUIRED IMPORTED_TARGET lxc)
pkg_check_modules(ARCHIVE REQUIRED IMPORTED_TARGET libarchive)
pkg_check_modules(CRYPTO REQUIRED IMPORTED_TARGET libcrypto)

atl_core(compute_lxc_core ${lxc_core} LIBS atl_identity atl_proto PkgConfig::CRYPTO)
target_include_directories(compute_lxc_core PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
list(APPEND shell ${lxc_shell})
list(APPEND CMP_LIBS compute_lxc_core)
if(lxc_shell MATCHES "/lxc[.]c")
  list(APPEND CMP_DEFINITIONS CMP_HAVE_LXC)
endif()
if(lxc_shell MATCHES "/node[.]c")
  list(APPEND CMP_DEFINITIONS CMP_HAVE_NODE)
endif()

# What both helpers do: mounts in a namespace of their own, work with the container's ids in its root.
atl_library(ct_helper helper/mounts.c helper/sandbox.c helper/setup.c helper/spec.c
  LIBS compute_lxc_core atl_pure atl_proto)
foreach(helper lxc-start lxc-unpack)
  file(GLOB helper_sources CONFIGURE_DEPENDS ${helper}/*.c)
  add_executable(atoll-${helper} ${helper_sources})
  target_link_libraries(atoll-${helper} PRIVATE ct_helper atl_flags)
  atl_program(atoll-${helper})
  install(TARGETS atoll-${helper} RUNTIME DESTINATION libexec/atoll)
endforeach()
target_sources(atoll-lxc-start PRIVATE drivers/lxc.c drivers/lxc_cgroup.c drivers/lxc_lock.c)
target_include_directories(atoll-lxc-start PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(atoll-lxc-start PRIVATE PkgConfig::LXC)
# A start is a task of its own, and its worker uses neither loop nor bus. The linker drops them as dead code, but
# would still ask for ZeroMQ and what hangs on it, which takes longer to load than all else; so the archives are
# named without it. A sanitizer keeps more alive, so there they are linked as everywhere.
if(CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo" AND NOT ATL_FUZZ)
  add_dependencies(atoll-lxc-start atl_io atl_upid)
  target_link_libraries(atoll-lxc-start PRIVATE $<TARGET_FILE:atl_io> $<TARGET_FILE:atl_upid> atl_pure)
else()
  target_link_libraries(atoll-lxc-start PRIVATE atl_io)
endif()
target_link_libraries(atoll-lxc-unpack PRIVATE PkgConfig::ARCHIVE)

atl_unit_test(test_lxc_config tests/test_lxc_config.c LIBS compute_lxc_core atl_proto LABEL scenario)

# The driver with a real liblxc: root, a minute, nothing left behind.
file(GLOB ct_driver CONFIGURE_DEPENDS drivers/lxc*.c)
atl_unit_test(test_lxc_driver tests/test_lxc_driver.c drivers/fake_guests.c ${ct_driver}
  LIBS compute_core compute_lxc_core atl_io atl_proto atl_pure LABEL component TIMEOUT 120)
target_compile_definitions(test_lxc_driver PRIVATE CT_HELPER_DIR="${CMAKE_BINARY_DIR}/bin")
add_dependencies(test_lxc_driver atoll-lxc-start atoll-lxc-unpack)

atl_unit_test(test_lxc_migrate tests/test_lxc_migrate.c LIBS compute_lxc_core atl_proto)
atl_unit_test(test_lxc_doc tests/test_lxc_doc.c LIBS compute_lxc_core atl_proto)
atl_unit_test(test_lxc_setup tests/test_lxc_setup.c LIBS compute_lxc_core atl_proto LABEL scenario)
atl_fuzzer(fuzz_lxc_doc tests/fuzz_lxc_doc.c LIBS compute_lxc_core atl_proto)
atl_fuzzer(fuzz_lxc_setup tests/fuzz_lxc_setup.c LIBS compute_lxc_core atl_proto)

atl_unit_test(test_cmp_fake tests/test_fake.c drivers/fake.c drivers/fake_guests.c ${ct_driver}
  LIBS compute_core compute_lxc_core atl_io atl_proto atl_pure)

# Through the bus, with the real config-store and storage-agent.
add_test(NAME component.containers
  COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/tests/component_ct.py ${CMAKE_BINARY_DIR})
set_tests_properties(component.containers PROPERTIES LABELS component TIMEOUT 300 SKIP_RETURN_CODE 77)
