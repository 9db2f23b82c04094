# Builds for macOS on ARM, on Linux: LLVM's clang and linker, and the folder that
# tools/macos/make_sdk.py makes in place of Apple's SDK (GANDER_SDK).
set(CMAKE_SYSTEM_NAME Darwin)
set(CMAKE_SYSTEM_PROCESSOR arm64)
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES GANDER_SDK)

set(CMAKE_CXX_COMPILER clang++-19)
set(CMAKE_CXX_COMPILER_TARGET arm64-apple-macos14.0)
set(CMAKE_CXX_COMPILER_AR llvm-ar-19)
set(CMAKE_CXX_COMPILER_RANLIB llvm-ranlib-19)
find_program(CMAKE_AR llvm-ar-19 REQUIRED)
find_program(CMAKE_RANLIB llvm-ranlib-19 REQUIRED)
find_program(CMAKE_INSTALL_NAME_TOOL llvm-install-name-tool-19 REQUIRED)
find_program(CMAKE_LIPO llvm-lipo-19 REQUIRED)

set(CMAKE_OSX_SYSROOT ${GANDER_SDK})
set(CMAKE_OSX_ARCHITECTURES arm64)
set(CMAKE_OSX_DEPLOYMENT_TARGET 14.0)
# Not the C++ library of this clang, where it is installed: clang would prefer it.
set(CMAKE_CXX_FLAGS_INIT "-nostdinc++ -isystem ${GANDER_SDK}/usr/include/c++/v1")
# The version of Apple's linker whose options clang may use.
set(CMAKE_EXE_LINKER_FLAGS_INIT "-fuse-ld=lld-19 -mlinker-version=820")
set(CMAKE_SHARED_LINKER_FLAGS_INIT "-fuse-ld=lld-19 -mlinker-version=820")

# Headers and libraries only from the SDK; programs, Python for one, only from here.
set(CMAKE_FIND_ROOT_PATH ${GANDER_SDK})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
foreach(package fmt nlohmann_json CLI11 spdlog)
  set(${package}_DIR ${CMAKE_CURRENT_LIST_DIR}/packages)
endforeach()
set(Boost_NO_BOOST_CMAKE ON) # only headers, found in the SDK
