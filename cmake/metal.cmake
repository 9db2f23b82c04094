# The Metal backend. On macOS: its sources, the frameworks, and the kernels compiled ahead where the
# Metal compiler is installed (it comes with Xcode, not with the command line tools); without it they
# are compiled when gander starts. Elsewhere: the one source that says so.
file(GLOB GANDER_METAL_HOST_SOURCES CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/backend/gpu/metal/*.cpp)
list(FILTER GANDER_METAL_HOST_SOURCES EXCLUDE REGEX "/no_metal\\.cpp$")
list(FILTER GANDER_SOURCES EXCLUDE REGEX "/backend/gpu/metal/")
if(APPLE)
  list(APPEND GANDER_SOURCES ${GANDER_METAL_HOST_SOURCES})
  set(GANDER_METAL_LIBRARIES "-framework Metal" "-framework Foundation" objc)
else()
  list(APPEND GANDER_SOURCES ${PROJECT_SOURCE_DIR}/backend/gpu/metal/no_metal.cpp)
  # An object of its own, so that the linker leaves it out where the stand-in's tests bring the rest.
  set_source_files_properties(${PROJECT_SOURCE_DIR}/backend/gpu/metal/no_metal.cpp
                              PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
  set(GANDER_METAL_LIBRARIES "")
endif()

# gander_compile_metallib(file.metal...): compiles these kernels, which make one library as they make
# one text, into gander_objects. Metal 3.2 is for macOS 15 and later; a compiler that does not know it
# leaves an empty file in its place.
function(gander_compile_metallib)
  if(NOT APPLE)
    return()
  endif()
  execute_process(COMMAND xcrun -sdk macosx metal --version RESULT_VARIABLE no_compiler
                  OUTPUT_QUIET ERROR_QUIET)
  if(no_compiler)
    message(STATUS "No Metal compiler: the kernels will be compiled when gander starts")
    return()
  endif()
  file(GLOB_RECURSE headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/*.h)
  list(TRANSFORM ARGN REPLACE "^${PROJECT_SOURCE_DIR}/" "" OUTPUT_VARIABLE relative)
  set(text ${PROJECT_BINARY_DIR}/msl/gander.metal)
  add_custom_command(
    OUTPUT ${text}
    COMMAND ${GANDER_TRANSLATE} --source ${relative} ${text}
    DEPENDS ${ARGN} ${headers} ${GANDER_TRANSLATE_SOURCES}
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
    VERBATIM)
  set(source ${PROJECT_SOURCE_DIR}/backend/gpu/metal/metallib.cpp)
  foreach(version 3.1 3.2)
    if(version STREQUAL 3.1)
      set(macos 14.0)
    else()
      set(macos 15.0)
    endif()
    set(metallib ${PROJECT_BINARY_DIR}/msl/gander_${version}.metallib)
    execute_process(COMMAND xcrun -sdk macosx metal -std=metal${version} -x metal -c /dev/null
                            -o /dev/null RESULT_VARIABLE unknown_version OUTPUT_QUIET ERROR_QUIET)
    if(unknown_version)
      file(WRITE ${metallib} "")
    else()
      # Precise results: as MTLCompileOptions are set for the source (kernel_library.cpp).
      add_custom_command(
        OUTPUT ${metallib}
        COMMAND xcrun -sdk macosx metal -std=metal${version} -mmacosx-version-min=${macos}
                -fno-fast-math ${text} -o ${metallib}
        DEPENDS ${text}
        VERBATIM)
    endif()
    string(REPLACE . _ suffix ${version})
    set_property(SOURCE ${source} APPEND PROPERTY OBJECT_DEPENDS ${metallib})
    set_property(SOURCE ${source} APPEND PROPERTY COMPILE_DEFINITIONS
                                                  GANDER_METALLIB_${suffix}="${metallib}")
  endforeach()
endfunction()
