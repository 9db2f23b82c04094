# The kernels for NVIDIA GPUs: each file of kernels/ becomes C++ (tools/msl/translate.py), clang makes
# PTX of it without any CUDA toolkit, and the library carries that text. The driver compiles it for
# the GPU it finds, Ampere (sm_80) or later. This takes a processor 40 s, and only ninja repeats
# nothing of it: no compiler cache knows PTX.
set(GANDER_CUDA_KERNELS AUTO CACHE STRING
    "Kernels for NVIDIA GPUs: ON (needs clang 19 or later), OFF, or AUTO: where there is such a clang")
set_property(CACHE GANDER_CUDA_KERNELS PROPERTY STRINGS AUTO ON OFF)

# Whether the compiler makes PTX 8.5 for Hopper, which the kernels are written for; a validator for
# find_program.
function(gander_makes_ptx result compiler)
  set(source ${PROJECT_BINARY_DIR}/CMakeFiles/gander_makes_ptx.cpp)
  file(WRITE ${source} "int value;\n")
  execute_process(
    COMMAND ${compiler} -x c++ -S ${source} -o - --target=nvptx64-nvidia-cuda -march=sm_90
            -ffreestanding -fconvergent-functions
    OUTPUT_VARIABLE ptx ERROR_QUIET)
  if(NOT ptx MATCHES "\\.version (8\\.[5-9]|9|[1-9][0-9])")
    set(${result} FALSE PARENT_SCOPE)
  endif()
endfunction()

# GANDER_HAS_CUDA_KERNELS: what AUTO comes to. CI says OFF: it has no GPU.
set(GANDER_HAS_CUDA_KERNELS OFF)
if(NOT GANDER_CUDA_KERNELS STREQUAL "AUTO" OR CMAKE_SYSTEM_NAME STREQUAL "Linux")
  if(GANDER_CUDA_KERNELS)
    find_program(GANDER_CUDA_CLANG NAMES clang++-22 clang++-21 clang++-20 clang++-19 clang++
                 VALIDATOR gander_makes_ptx DOC "The compiler of the kernels for NVIDIA GPUs")
    if(GANDER_CUDA_CLANG)
      set(GANDER_HAS_CUDA_KERNELS ON)
    elseif(NOT GANDER_CUDA_KERNELS STREQUAL "AUTO")
      message(FATAL_ERROR "GANDER_CUDA_KERNELS is ${GANDER_CUDA_KERNELS}, and there is no clang that "
                          "makes PTX 8.5: install clang 19 or later, or name it with -DGANDER_CUDA_CLANG=")
    endif()
  endif()
endif()
if(GANDER_HAS_CUDA_KERNELS)
  message(STATUS "Kernels for NVIDIA GPUs: compiled by ${GANDER_CUDA_CLANG}")
else()
  message(STATUS "Kernels for NVIDIA GPUs: none (GANDER_CUDA_KERNELS=${GANDER_CUDA_KERNELS}; clang 19 or "
                 "later makes them)")
endif()

# gander_ptx(SOURCE OUTPUT TARGET [OPTION...]): PTX of a translated kernel.
function(gander_ptx source output target)
  add_custom_command(
    OUTPUT ${output}
    COMMAND
      ${GANDER_CUDA_CLANG} -x c++ -std=c++20 -S ${source} -o ${output} --target=nvptx64-nvidia-cuda
      -march=${target} ${ARGN} -O3 -ffp-contract=fast -fno-strict-aliasing -ffreestanding -nostdinc++
      -w -I${GANDER_MSL_DIR}/include
      # Barriers and shuffles must stay where all threads reach them, in helpers too.
      -fconvergent-functions
      # All in one: a kernel is specialised as a whole, and address spaces are found by inlining.
      -mllvm -inline-threshold=1000000 -mllvm -inline-cold-callsite-threshold=1000000
    DEPENDS ${source}
    COMMENT "PTX of ${output}"
    VERBATIM)
endfunction()

# gander_cuda_kernels(TARGET): adds the kernels to the target's sources.
function(gander_cuda_kernels target)
  file(GLOB_RECURSE kernels CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/*.metal
       ${PROJECT_SOURCE_DIR}/kernels/*.msl)
  file(GLOB_RECURSE headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/*.h ${GANDER_MSL_DIR}/include/*
                                              ${GANDER_MSL_DIR}/*.py)
  set(folder ${PROJECT_BINARY_DIR}/cuda_kernels)
  file(MAKE_DIRECTORY ${folder})
  foreach(kernel ${kernels})
    cmake_path(RELATIVE_PATH kernel BASE_DIRECTORY ${PROJECT_SOURCE_DIR}/kernels OUTPUT_VARIABLE relative)
    string(REPLACE / _ name ${relative})
    add_custom_command(
      OUTPUT ${folder}/${name}.cpp
      COMMAND ${GANDER_TRANSLATE} kernels/${relative} ${folder}/${name}.cpp
      DEPENDS ${kernel} ${headers}
      WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
      VERBATIM)
    gander_ptx(${folder}/${name}.cpp ${folder}/${name}.ptx sm_80)
    list(APPEND modules ${folder}/${name}.ptx)
    if(relative MATCHES "tensor\\.msl$")
      # Products from shared memory: an instruction that Hopper has and no later GPU.
      gander_ptx(${folder}/${name}.cpp ${folder}/${name}.sm_90a.ptx sm_90a -DMSL_WGMMA=1)
      list(APPEND modules ${folder}/${name}.sm_90a.ptx)
    elseif(relative MATCHES "\\.msl$")
      # Hopper's copy engine: the driver takes the newest that the GPU can run.
      gander_ptx(${folder}/${name}.cpp ${folder}/${name}.sm_90.ptx sm_90 -DMSL_BULK_COPIES=1)
      list(APPEND modules ${folder}/${name}.sm_90.ptx)
    endif()
  endforeach()
  add_custom_command(
    OUTPUT ${folder}/kernel_modules.cpp
    COMMAND ${Python3_EXECUTABLE} ${GANDER_MSL_DIR}/embed_ptx.py ${modules} ${folder}/kernel_modules.cpp
    DEPENDS ${modules} ${GANDER_MSL_DIR}/embed_ptx.py
    VERBATIM)
  # The literals are longer than the standard asks of compilers.
  set_source_files_properties(${folder}/kernel_modules.cpp PROPERTIES COMPILE_OPTIONS -w)
  target_sources(${target} PRIVATE ${folder}/kernel_modules.cpp)
  set_source_files_properties(${PROJECT_SOURCE_DIR}/backend/gpu/cuda/no_kernels.cpp
                              PROPERTIES HEADER_FILE_ONLY ON)
endfunction()
