# Install rules. Components: runtime (executable, models, completions), library (shared library),
# development (headers, static library, CMake package, pkg-config file).
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/gander)

install(
  TARGETS gander
  EXPORT gander_shared
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT library NAMELINK_COMPONENT development)
install(
  TARGETS gander_static
  EXPORT gander_static
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/gander DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        COMPONENT development)

# Two export files, so that a user of the shared library needs none of the static one's dependencies.
install(EXPORT gander_shared NAMESPACE gander:: FILE gander-shared-targets.cmake
        DESTINATION ${package_dir} COMPONENT development)
install(EXPORT gander_static NAMESPACE gander:: FILE gander-static-targets.cmake
        DESTINATION ${package_dir} COMPONENT development)
configure_package_config_file(
  ${PROJECT_SOURCE_DIR}/cmake/gander-config.cmake.in ${PROJECT_BINARY_DIR}/gander-config.cmake
  INSTALL_DESTINATION ${package_dir} NO_SET_AND_CHECK_MACRO NO_CHECK_REQUIRED_COMPONENTS_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/gander-config-version.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/gander-config.cmake
              ${PROJECT_BINARY_DIR}/gander-config-version.cmake
        DESTINATION ${package_dir} COMPONENT development)

# gander.pc finds its prefix from where it lies, unless the folders were given as absolute paths.
file(RELATIVE_PATH GANDER_PC_TO_PREFIX ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig
     ${CMAKE_INSTALL_PREFIX})
string(REGEX REPLACE "/$" "" GANDER_PC_TO_PREFIX "${GANDER_PC_TO_PREFIX}")
foreach(dir INCLUDEDIR LIBDIR)
  if(IS_ABSOLUTE ${CMAKE_INSTALL_${dir}})
    set(GANDER_PC_${dir} ${CMAKE_INSTALL_${dir}})
  else()
    set(GANDER_PC_${dir} "\${prefix}/${CMAKE_INSTALL_${dir}}")
  endif()
endforeach()
list(JOIN GANDER_METAL_LIBRARIES " " GANDER_PC_METAL)
string(REPLACE "objc" "-lobjc" GANDER_PC_METAL "${GANDER_PC_METAL}")
configure_file(${PROJECT_SOURCE_DIR}/cmake/gander.pc.in ${PROJECT_BINARY_DIR}/gander.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/gander.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig
        COMPONENT development)

install(DIRECTORY ${PROJECT_SOURCE_DIR}/models DESTINATION ${CMAKE_INSTALL_DATADIR}/gander
        COMPONENT runtime)
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE ${PROJECT_SOURCE_DIR}/NOTICE
        DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT runtime)

if(TARGET gander_app)
  install(TARGETS gander_app RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT runtime)
endif()

if(TARGET gander_server)
  install(TARGETS gander_server RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT runtime)
endif()

# The executable writes its own completion scripts.
if(TARGET gander_app AND NOT CMAKE_CROSSCOMPILING)
  set(completions ${PROJECT_BINARY_DIR}/completions)
  add_custom_command(
    OUTPUT ${completions}/gander ${completions}/_gander ${completions}/gander.fish
    COMMAND ${CMAKE_COMMAND} -E make_directory ${completions}
    COMMAND gander_app completion bash > ${completions}/gander
    COMMAND gander_app completion zsh > ${completions}/_gander
    COMMAND gander_app completion fish > ${completions}/gander.fish
    DEPENDS gander_app
    VERBATIM)
  add_custom_target(gander_completions ALL DEPENDS ${completions}/gander)
  install(FILES ${completions}/gander DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions
          COMPONENT runtime)
  install(FILES ${completions}/_gander DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions
          COMPONENT runtime)
  install(FILES ${completions}/gander.fish
          DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d COMPONENT runtime)
endif()
