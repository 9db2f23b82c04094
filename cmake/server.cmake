# gander-server: its sources as objects, which its tests link too, and the executable.
find_package(Boost 1.81 REQUIRED) # Beast and Asio are headers only
find_package(spdlog REQUIRED)

file(GLOB_RECURSE GANDER_SERVER_SOURCES CONFIGURE_DEPENDS
     ${PROJECT_SOURCE_DIR}/apps/gander-server/*.cpp)
list(FILTER GANDER_SERVER_SOURCES EXCLUDE REGEX "/(main|message)\\.cpp$|/api/")

# Every token passes through it.
set(GANDER_SERVER_OPTIONS "")
if(GANDER_SANITIZE)
  set(GANDER_SERVER_OPTIONS ${GANDER_LITTLE_OPTIMIZED})
endif()

# Text in, text out: what knows no sockets is a library of its own, for the fuzzers.
file(GLOB GANDER_OPENAI_SOURCES CONFIGURE_DEPENDS
     ${PROJECT_SOURCE_DIR}/apps/gander-server/api/*.cpp
     ${PROJECT_SOURCE_DIR}/apps/gander-server/http/message.cpp)
add_library(gander_openai_objects OBJECT ${GANDER_OPENAI_SOURCES})
target_link_libraries(gander_openai_objects PUBLIC gander_internal)
target_compile_options(gander_openai_objects PRIVATE ${GANDER_SERVER_OPTIONS})
gander_precompile(gander_openai_objects ${GANDER_PRECOMPILED})

# The page is part of the executable.
file(GLOB GANDER_PAGE_FILES CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/apps/gander-server/page/*)
set(page ${PROJECT_BINARY_DIR}/server/page_files.cpp)
add_custom_command(
  OUTPUT ${page}
  COMMAND ${CMAKE_COMMAND} -DFOLDER=${PROJECT_SOURCE_DIR}/apps/gander-server/page -DOUTPUT=${page} -P
          ${PROJECT_SOURCE_DIR}/cmake/embed_page.cmake
  DEPENDS ${GANDER_PAGE_FILES} ${PROJECT_SOURCE_DIR}/cmake/embed_page.cmake
  VERBATIM)
set_source_files_properties(${page} PROPERTIES SKIP_LINTING ON SKIP_UNITY_BUILD_INCLUSION ON)

# What Asio and Beast are made of is compiled once, in http/boost.cpp.
add_library(gander_server_headers INTERFACE)
target_include_directories(gander_server_headers SYSTEM INTERFACE ${Boost_INCLUDE_DIRS})
target_link_libraries(gander_server_headers INTERFACE gander_internal spdlog::spdlog)
target_compile_definitions(
  gander_server_headers INTERFACE BOOST_ASIO_SEPARATE_COMPILATION= BOOST_BEAST_SEPARATE_COMPILATION=
                                  BOOST_ASIO_NO_DEPRECATED= BOOST_ERROR_CODE_HEADER_ONLY=)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC 12 takes a coroutine's frame in a joined source for a type that a header shows, and does not
  # know the operators it is allocated with.
  target_compile_options(gander_server_headers INTERFACE -Wno-subobject-linkage
                                                         -Wno-mismatched-new-delete)
elseif(GANDER_SANITIZE MATCHES "undefined")
  # clang 14 cannot put the data that this check wants before the parts of a coroutine.
  target_compile_options(gander_server_headers INTERFACE -fno-sanitize=function)
endif()

add_library(gander_server_objects OBJECT ${GANDER_SERVER_SOURCES} ${page})
target_link_libraries(gander_server_objects PUBLIC gander_server_headers)
target_compile_options(gander_server_objects PRIVATE ${GANDER_SERVER_OPTIONS})
gander_precompile(gander_server_objects ${GANDER_PRECOMPILED})

add_executable(gander_server apps/gander-server/main.cpp $<TARGET_OBJECTS:gander_server_objects>
                             $<TARGET_OBJECTS:gander_openai_objects>
                             $<TARGET_OBJECTS:gander_cli_objects>)
set_target_properties(gander_server PROPERTIES OUTPUT_NAME gander-server RUNTIME_OUTPUT_DIRECTORY
                                               ${PROJECT_BINARY_DIR})
target_link_libraries(gander_server PRIVATE gander_server_headers CLI11::CLI11)
target_compile_options(gander_server PRIVATE ${GANDER_LITTLE_OPTIMIZED})
