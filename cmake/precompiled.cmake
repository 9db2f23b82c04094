# With clang, large headers are compiled once for each target. (GCC's precompiled headers have 100 MB
# and are slower to read than the headers themselves.) Sources still include what they use: GCC and
# script/lint compile them without.
set(GANDER_PRECOMPILED <algorithm> <array> <chrono> <cmath> <filesystem> <fstream> <functional> <map>
                       <memory> <mutex> <optional> <random> <span> <string> <thread>
                       <unordered_map> <variant> <vector> <fmt/format.h> <nlohmann/json.hpp>)

# gander_precompile(target headers...): they must suit every source without options of its own.
function(gander_precompile target)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    return()
  endif()
  get_target_property(sources ${target} SOURCES)
  foreach(source ${sources})
    get_source_file_property(options ${source} COMPILE_OPTIONS)
    if(options)
      set_source_files_properties(${source} PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
    endif()
  endforeach()
  # So that ccache knows an unchanged header again.
  target_compile_options(${target} PRIVATE "SHELL:-Xclang -fno-pch-timestamp")
  target_precompile_headers(${target} PRIVATE ${ARGN})
endfunction()
