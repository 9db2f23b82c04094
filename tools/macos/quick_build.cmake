# For a build that nobody runs: not optimised, and with the large headers compiled once. Given to
# CMake as CMAKE_PROJECT_gander_INCLUDE; what it does comes after the project's own lines.
function(gander_build_quickly)
  get_target_property(sources gander_objects SOURCES)
  foreach(source ${sources})
    get_source_file_property(options ${source} COMPILE_OPTIONS)
    if(options)
      # Their own options do not go with a precompiled header.
      list(FILTER options EXCLUDE REGEX "^-O[0-9]$")
      set_source_files_properties(${source} PROPERTIES SKIP_PRECOMPILE_HEADERS ON COMPILE_OPTIONS
                                                                                  "${options}")
    endif()
  endforeach()
  # So that ccache knows an unchanged header again.
  set_property(TARGET gander_objects gander_app APPEND PROPERTY COMPILE_OPTIONS
                                                         "SHELL:-Xclang -fno-pch-timestamp")
  target_precompile_headers(
    gander_objects PRIVATE <algorithm> <array> <filesystem> <fstream> <functional> <map> <memory>
    <mutex> <optional> <span> <string> <thread> <unordered_map> <vector> <fmt/format.h>
    <nlohmann/json.hpp>)
  target_precompile_headers(gander_app PRIVATE <CLI/CLI.hpp> <fmt/format.h> <nlohmann/json.hpp>)
endfunction()
cmake_language(DEFER CALL gander_build_quickly)
