# The Metal backend on Linux, over the stand-in for Objective-C, Foundation and Metal: its tests, and
# the whole command line. Both link the backend's sources before the library, whose no_metal.cpp is
# then never looked for.
if(NOT CMAKE_SYSTEM_NAME STREQUAL "Linux" OR NOT CMAKE_SYSTEM_PROCESSOR MATCHES
                                             "x86_64|AMD64|aarch64|arm64")
  return()
endif()

file(GLOB GANDER_METAL_STANDIN_SOURCES CONFIGURE_DEPENDS
     ${PROJECT_SOURCE_DIR}/tests/metal_standin/*.cpp)
list(FILTER GANDER_METAL_STANDIN_SOURCES EXCLUDE REGEX "/exit_check\\.cpp$")
add_library(gander_metal_on_linux OBJECT ${GANDER_METAL_STANDIN_SOURCES}
                                         ${GANDER_METAL_HOST_SOURCES})
target_link_libraries(gander_metal_on_linux PUBLIC gander_internal)
# Both sides declare the runtime's functions, with types of their own: not in one unit.
set_target_properties(gander_metal_on_linux PROPERTIES UNITY_BUILD_MODE GROUP)
set_source_files_properties(${GANDER_METAL_HOST_SOURCES} PROPERTIES UNITY_GROUP host)
set_source_files_properties(${GANDER_METAL_STANDIN_SOURCES} PROPERTIES UNITY_GROUP standin)
target_compile_options(gander_metal_on_linux PRIVATE ${GANDER_LITTLE_OPTIMIZED})
gander_precompile(gander_metal_on_linux ${GANDER_PRECOMPILED})

add_executable(gander_metal_tests ${GANDER_METAL_TEST_SOURCES} tests/support/backend_check.cpp
                                  tests/support/synthetic_model.cpp)
target_link_libraries(gander_metal_tests PRIVATE gander_metal_on_linux GTest::gtest_main
                                                 GTest::gmock)
target_compile_definitions(gander_metal_tests PRIVATE GANDER_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
target_compile_options(gander_metal_tests PRIVATE ${GANDER_LITTLE_OPTIMIZED})
gander_precompile(gander_metal_tests ${GANDER_PRECOMPILED} <gmock/gmock.h> <gtest/gtest.h>)
gtest_discover_tests(gander_metal_tests DISCOVERY_TIMEOUT 60)

if(TARGET gander_app)
  add_executable(gander_metal_standin $<TARGET_OBJECTS:gander_app_objects>
                                      $<TARGET_OBJECTS:gander_cli_objects>
                                      tests/metal_standin/exit_check.cpp)
  set_target_properties(gander_metal_standin PROPERTIES RUNTIME_OUTPUT_DIRECTORY
                                                        ${PROJECT_BINARY_DIR})
  target_link_libraries(gander_metal_standin PRIVATE gander_metal_on_linux CLI11::CLI11
                                                     ${GANDER_LIBEDIT_LIBRARY})

  if(GANDER_SANITIZE)
    return() # ten times slower, and the tests above use the same code
  endif()
  # The command line end to end, with the built-in model. HOME: where pipelines are cached. An
  # expected output alone would not notice misuse, a leak at exit, or a fall-back to the CPU.
  function(gander_metal_cli_test name output never environment)
    add_test(NAME MetalCommandLine.${name} COMMAND gander_metal_standin run -p "Once upon a time"
                                                   -n 2 --seed 1 ${ARGN})
    set_tests_properties(
      MetalCommandLine.${name}
      PROPERTIES PASS_REGULAR_EXPRESSION "${output}" FAIL_REGULAR_EXPRESSION
                 "Metal stand-in:;${never}" ENVIRONMENT
                 "HOME=${PROJECT_BINARY_DIR}/metal_home;${environment}")
  endfunction()
  gander_metal_cli_test(Generates "^, there" warning "" --backend metal --no-self-test)
  gander_metal_cli_test(GeneratesOnMacOs14 "^, there" warning "GANDER_STANDIN_MACOS=14" --backend metal
                        --no-self-test)
  gander_metal_cli_test(ChoosesMetal "^, there" warning "" --backend auto --sync layer)
  gander_metal_cli_test(FallsBack "warning: metal is not used: Metal does not compile.*, there"
                        "no warning" "GANDER_STANDIN_FAIL=compile")
  gander_metal_cli_test(ReportsTimeouts "gander: Metal: command buffer 1.*GPU Timeout"
                        "there" "GANDER_STANDIN_FAIL=timeout" --backend metal)
  gander_metal_cli_test(ReportsMemory "gander: Apple stand-in: no memory for" "there"
                        "GANDER_STANDIN_FAIL=memory" --backend metal)
endif()
