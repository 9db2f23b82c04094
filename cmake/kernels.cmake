# Kernels outside Apple's compiler: tools/msl translates them to C++ for the emulated GPU.
find_package(Python3 COMPONENTS Interpreter REQUIRED)
set(GANDER_MSL_DIR ${PROJECT_SOURCE_DIR}/tools/msl)
set(GANDER_TRANSLATE ${Python3_EXECUTABLE} ${GANDER_MSL_DIR}/translate.py)
set(GANDER_TRANSLATE_SOURCES ${GANDER_MSL_DIR}/translate.py ${GANDER_MSL_DIR}/msl_text.py)

# Every GPU thread is code of its own that switches stacks. Aliasing: kernels read blocks of bytes
# through pointers to words, as GPU code does. No fused operations: one rounding each, everywhere.
set(GANDER_MSL_OPTIONS -w -O2 -fno-strict-aliasing -ffp-contract=off -fno-math-errno)
if(GANDER_SANITIZE)
  list(APPEND GANDER_MSL_OPTIONS -O1)
endif()
if(GANDER_FUZZERS)
  list(APPEND GANDER_MSL_OPTIONS -fno-sanitize=fuzzer-no-link) # no fuzzer gets there
endif()

# gander_translate_kernels(target file.metal...): the target runs these kernels on the CPU.
function(gander_translate_kernels target)
  file(GLOB_RECURSE headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/*.h)
  file(GLOB dialect CONFIGURE_DEPENDS ${GANDER_MSL_DIR}/include/*)
  foreach(kernel ${ARGN})
    cmake_path(RELATIVE_PATH kernel BASE_DIRECTORY ${PROJECT_SOURCE_DIR} OUTPUT_VARIABLE relative)
    set(translated ${PROJECT_BINARY_DIR}/msl/${relative}.cpp)
    cmake_path(GET translated PARENT_PATH folder)
    file(MAKE_DIRECTORY ${folder})
    add_custom_command(
      OUTPUT ${translated}
      COMMAND ${GANDER_TRANSLATE} ${relative} ${translated}
      DEPENDS ${kernel} ${headers} ${GANDER_TRANSLATE_SOURCES}
      WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
      VERBATIM)
    set_source_files_properties(
      ${translated} PROPERTIES COMPILE_OPTIONS "${GANDER_MSL_OPTIONS}" INCLUDE_DIRECTORIES
                                              ${GANDER_MSL_DIR}/include
                               OBJECT_DEPENDS "${dialect}" SKIP_LINTING ON)
    target_sources(${target} PRIVATE ${translated})
  endforeach()
endfunction()

# gander_join_kernels(target file.metal...): kernel_source() and link_kernels() for these files.
function(gander_join_kernels target)
  file(GLOB_RECURSE headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/*.h)
  list(TRANSFORM ARGN REPLACE "^${PROJECT_SOURCE_DIR}/" "" OUTPUT_VARIABLE relative)
  foreach(part embed table)
    set(joined ${PROJECT_BINARY_DIR}/msl/kernel_${part}.cpp)
    add_custom_command(
      OUTPUT ${joined}
      COMMAND ${GANDER_TRANSLATE} --${part} ${relative} ${joined}
      DEPENDS ${ARGN} ${headers} ${GANDER_TRANSLATE_SOURCES}
      WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
      VERBATIM)
    set_source_files_properties(${joined} PROPERTIES COMPILE_OPTIONS -w)
    target_sources(${target} PRIVATE ${joined})
  endforeach()
endfunction()

# The thread sanitizer sees kernels, not the machine that switches between their threads.
if(GANDER_SANITIZE MATCHES thread)
  set_source_files_properties(
    backend/gpu/emulated/fiber.cpp backend/gpu/emulated/machine.cpp
    PROPERTIES COMPILE_OPTIONS -fno-sanitize=thread COMPILE_DEFINITIONS GANDER_THREAD_SANITIZER=1)
endif()

file(GLOB_RECURSE GANDER_METAL_SOURCES CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/*.metal)
list(SORT GANDER_METAL_SOURCES)
file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/msl)
gander_translate_kernels(gander_objects ${GANDER_METAL_SOURCES})
gander_join_kernels(gander_objects ${GANDER_METAL_SOURCES})
