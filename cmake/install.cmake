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

# The executables write their own completion scripts.
function(gander_install_completions program)
  set(folder ${PROJECT_BINARY_DIR}/completions)
  set(bash ${folder}/${program})
  set(zsh ${folder}/_${program})
  set(fish ${folder}/${program}.fish)
  add_custom_command(
    OUTPUT ${bash} ${zsh} ${fish}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${folder}
    COMMAND ${ARGN} bash > ${bash}
    COMMAND ${ARGN} zsh > ${zsh}
    COMMAND ${ARGN} fish > ${fish}
    DEPENDS ${ARGV1}
    VERBATIM)
  add_custom_target(${program}_completions ALL DEPENDS ${bash})
  install(FILES ${bash} DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions
          COMPONENT runtime)
  install(FILES ${zsh} DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions COMPONENT runtime)
  install(FILES ${fish} DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d
          COMPONENT runtime)
endfunction()
if(TARGET gander_app AND NOT CMAKE_CROSSCOMPILING)
  gander_install_completions(gander gander_app completion)
endif()
if(TARGET gander_server AND NOT CMAKE_CROSSCOMPILING)
  gander_install_completions(gander-server gander_server --completion)
endif()
