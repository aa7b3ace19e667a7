# Flags and the few functions every folder uses: atl_library, atl_core, atl_service, atl_unit_test, atl_fuzzer.
set(CMAKE_C_STANDARD 17)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

set(ATL_SANITIZE "" CACHE STRING "Sanitizers: address,undefined or thread")
option(ATL_COVERAGE "Count executed lines" OFF)
option(ATL_ANALYZE "Build with gcc -fanalyzer" OFF)
option(ATL_FUZZ "Build the libFuzzer programs (needs clang)" OFF)

find_program(ATL_CCACHE ccache)
if(ATL_CCACHE)
  set(CMAKE_C_COMPILER_LAUNCHER ${ATL_CCACHE})
endif()
find_package(PkgConfig REQUIRED)

# Warnings for our own code; generated code takes only the base target.
add_library(atl_base_flags INTERFACE)
target_compile_definitions(atl_base_flags INTERFACE _GNU_SOURCE)
target_compile_options(atl_base_flags INTERFACE -fno-omit-frame-pointer -ffunction-sections -fdata-sections)
target_link_options(atl_base_flags INTERFACE -Wl,--gc-sections -Wl,--as-needed)
if(CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo" AND NOT ATL_FUZZ)
  set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O2 -g")
  target_compile_options(atl_base_flags INTERFACE -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fcf-protection)
  target_link_options(atl_base_flags INTERFACE -Wl,-z,relro,-z,now)
endif()
if(ATL_SANITIZE)
  target_compile_options(atl_base_flags INTERFACE -fsanitize=${ATL_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(atl_base_flags INTERFACE -fsanitize=${ATL_SANITIZE})
endif()
if(ATL_FUZZ)
  target_compile_options(atl_base_flags INTERFACE -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all)
  target_link_options(atl_base_flags INTERFACE -fsanitize=address,undefined)
endif()
if(ATL_COVERAGE)
  target_compile_options(atl_base_flags INTERFACE --coverage)
  target_link_options(atl_base_flags INTERFACE --coverage)
endif()

add_library(atl_flags INTERFACE)
target_link_libraries(atl_flags INTERFACE atl_base_flags)
target_compile_options(atl_flags INTERFACE -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wcast-qual
  -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes -Wwrite-strings -Wvla -Wformat=2 -Wundef -Werror)
if(ATL_ANALYZE) # not for tests: CMocka's assertions do not end a path for the analyzer
  target_compile_options(atl_flags INTERFACE $<$<NOT:$<BOOL:$<TARGET_PROPERTY:ATL_TEST>>>:-fanalyzer>)
endif()
target_include_directories(atl_flags INTERFACE ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/common)

# atl_library(NAME SOURCES... [LIBS ...]): a static library of our own code.
function(atl_library name)
  cmake_parse_arguments(A "" "" "LIBS" ${ARGN})
  add_library(${name} STATIC ${A_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PUBLIC ${A_LIBS} PRIVATE atl_flags)
  target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR}/common)
endfunction()

# atl_core(NAME SOURCES... [LIBS ...]): a pure library; its undefined symbols are checked against an allow-list.
function(atl_core name)
  atl_library(${name} ${ARGN})
  if(NOT name STREQUAL atl_pure)
    target_link_libraries(${name} PUBLIC atl_pure)
  endif()
  add_test(NAME purity.${name}
    COMMAND ${CMAKE_SOURCE_DIR}/tools/check-purity ${CMAKE_SOURCE_DIR} $<TARGET_FILE:${name}>)
  set_tests_properties(purity.${name} PROPERTIES LABELS purity)
endfunction()

# What an installation needs, without the tests.
add_custom_target(programs)

# atl_program(TARGET): a program of the installation; goes to BUILD/bin.
function(atl_program name)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
  add_dependencies(programs ${name})
endfunction()

# atl_service(NAME SOURCES... [LIBS ...]): the program atoll-NAME, linked with the shared I/O parts.
function(atl_service name)
  cmake_parse_arguments(A "" "" "LIBS" ${ARGN})
  add_executable(atoll-${name} ${A_UNPARSED_ARGUMENTS})
  target_link_libraries(atoll-${name} PRIVATE ${A_LIBS} atl_io atl_pure atl_flags)
  target_include_directories(atoll-${name} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  atl_program(atoll-${name})
  install(TARGETS atoll-${name} RUNTIME DESTINATION libexec/atoll)
endfunction()

# atl_unit_test(NAME SOURCES... [LIBS ...] [LABEL unit]): one CMocka program, run by ctest.
function(atl_unit_test name)
  cmake_parse_arguments(A "" "LABEL;TIMEOUT" "LIBS" ${ARGN})
  if(NOT A_LABEL)
    set(A_LABEL unit)
  endif()
  if(NOT A_TIMEOUT)
    set(A_TIMEOUT 60)
  endif()
  add_executable(${name} ${A_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PRIVATE ${A_LIBS} atl_test_main cmocka atl_flags)
  set_target_properties(${name} PROPERTIES ATL_TEST ON)
  target_include_directories(${name} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/tests)
  add_test(NAME ${A_LABEL}.${name} COMMAND ${name} WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR})
  set_tests_properties(${A_LABEL}.${name} PROPERTIES LABELS ${A_LABEL} TIMEOUT ${A_TIMEOUT} SKIP_RETURN_CODE 77
    ENVIRONMENT "UBSAN_OPTIONS=print_stacktrace=1;TSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/tools/tsan-suppressions.txt;ATL_SOURCE_DIR=${CMAKE_SOURCE_DIR}")
endfunction()

# atl_fuzzer(NAME SOURCE... [LIBS ...]): a libFuzzer program; without ATL_FUZZ the same source runs its corpus once.
function(atl_fuzzer name)
  cmake_parse_arguments(A "" "" "LIBS" ${ARGN})
  if(ATL_FUZZ)
    add_executable(${name} ${A_UNPARSED_ARGUMENTS})
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    target_link_libraries(${name} PRIVATE ${A_LIBS} atl_flags)
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
  endif()
endfunction()
