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

add_executable(gander_metal_tests ${GANDER_METAL_TEST_SOURCES} tests/support/synthetic_model.cpp)
target_link_libraries(gander_metal_tests PRIVATE gander_metal_on_linux GTest::gtest_main
                                                 GTest::gmock)
target_compile_definitions(gander_metal_tests PRIVATE GANDER_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
gtest_discover_tests(gander_metal_tests DISCOVERY_TIMEOUT 60)

if(TARGET gander_app)
  add_executable(gander_metal_standin ${GANDER_APP_SOURCES} tests/metal_standin/exit_check.cpp)
  set_target_properties(gander_metal_standin PROPERTIES RUNTIME_OUTPUT_DIRECTORY
                                                        ${PROJECT_BINARY_DIR})
  target_include_directories(gander_metal_standin PRIVATE ${GANDER_LIBEDIT_INCLUDE})
  target_link_libraries(gander_metal_standin PRIVATE gander_metal_on_linux CLI11::CLI11
                                                     ${GANDER_LIBEDIT_LIBRARY})
  target_compile_options(gander_metal_standin PRIVATE $<$<CONFIG:Release>:-O1>)
endif()
