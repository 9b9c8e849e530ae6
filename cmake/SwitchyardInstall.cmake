# What `make install` puts under a prefix, and how find_package(switchyard) finds it there. The tree may be moved as a whole.
#
#   bin/switchyard                 the program
#   include/switchyard/            public headers
#   lib/                           static libraries, lib/cmake/switchyard
#   share/switchyard/              systems.tsv, recipes, data, heads.txt (what the sources say of themselves, for `explain`):
#                                  the program looks for them in ../share/switchyard
include(CMakePackageConfigHelpers)

set(sw_config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/switchyard)
set(sw_share_dir ${CMAKE_INSTALL_DATADIR}/switchyard)

set(sw_libraries switchyard_base)
if(SWITCHYARD_TORCH)
  list(APPEND sw_libraries switchyard)
endif()
target_compile_features(switchyard_base PUBLIC cxx_std_20)
install(TARGETS ${sw_libraries} EXPORT switchyardTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT switchyardTargets NAMESPACE switchyard:: DESTINATION ${sw_config_dir})
if(TARGET switchyard_program)
  install(TARGETS switchyard_program RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()

configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/switchyardConfig.cmake.in ${PROJECT_BINARY_DIR}/switchyardConfig.cmake
                              INSTALL_DESTINATION ${sw_config_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/switchyardConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/switchyardConfig.cmake ${PROJECT_BINARY_DIR}/switchyardConfigVersion.cmake
        DESTINATION ${sw_config_dir})

install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/switchyard DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(DIRECTORY ${PROJECT_SOURCE_DIR}/recipes ${PROJECT_SOURCE_DIR}/data DESTINATION ${sw_share_dir})
install(FILES ${PROJECT_SOURCE_DIR}/systems.tsv DESTINATION ${sw_share_dir})
install(CODE "execute_process(COMMAND ${CMAKE_COMMAND} -DSOURCE=${PROJECT_SOURCE_DIR}
  -DOUT=\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${sw_share_dir}/heads.txt -P ${CMAKE_CURRENT_LIST_DIR}/SourceHeads.cmake COMMAND_ERROR_IS_FATAL ANY)")
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
