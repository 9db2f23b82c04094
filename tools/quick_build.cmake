# For a build that nobody runs: not optimised, whatever a source asks for. Given to CMake as
# CMAKE_PROJECT_gander_INCLUDE; what it does comes after the project's own lines.
function(gander_build_quickly)
  get_target_property(sources gander_objects SOURCES)
  foreach(source ${sources})
    get_source_file_property(options ${source} COMPILE_OPTIONS)
    if(options)
      list(FILTER options EXCLUDE REGEX "^-O[0-9]$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${options}")
    endif()
  endforeach()
endfunction()
cmake_language(DEFER CALL gander_build_quickly)
