function(sw_torch_tests folder)
  sw_tests(${folder} LIBS switchyard ${ARGN})
  string(REPLACE "/" "_" name ${folder})
  if(TARGET ${name}_tests)
    target_precompile_headers(${name}_tests REUSE_FROM switchyard)
    target_compile_options(${name}_tests PRIVATE -fPIC)  # as the library: the precompiled header asks for equal flags
  endif()
endfunction()

foreach(folder core gates losses capacity experts dispatch comm mixers layer models infer vision eval steps bench cli systems)
  sw_torch_tests(${folder})
endforeach()

# A stranger's project against the install tree. Not under sanitizers: the stranger would need the same flags.
if(TARGET switchyard_program AND NOT SWITCHYARD_SANITIZE)
  add_test(NAME consumer COMMAND ${CMAKE_COMMAND} -DBUILD=${PROJECT_BINARY_DIR} -DSOURCE=${CMAKE_CURRENT_SOURCE_DIR}/consumer
                                 -DWORK=${PROJECT_BINARY_DIR}/consumer -P ${CMAKE_CURRENT_SOURCE_DIR}/consumer/run.cmake)
  set_tests_properties(consumer PROPERTIES TIMEOUT 600)
endif()
