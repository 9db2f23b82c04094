# The kernels for NVIDIA GPUs: each file of kernels/ becomes C++ (tools/msl/translate.py), clang makes
# PTX of it without any CUDA toolkit, and the library carries that text. The driver compiles it for
# the GPU it finds, Ampere (sm_80) or later.
option(GANDER_CUDA_KERNELS "Compile the kernels for NVIDIA GPUs (needs clang 19 or later)" OFF)

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
  find_program(GANDER_CUDA_CLANG NAMES clang++-22 clang++-21 clang++-20 clang++-19 clang++ REQUIRED
               DOC "The compiler of the kernels for NVIDIA GPUs")
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
