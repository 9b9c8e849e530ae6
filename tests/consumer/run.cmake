# cmake -DBUILD=<build folder> -DSOURCE=<this folder> -DWORK=<folder to work in> -P run.cmake
#
# Installs the build to a prefix, moves that prefix, configures and builds the program of this folder against it, runs it,
# and asks the installed program for the files that come with it.
function(run)
  execute_process(COMMAND ${ARGV} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

file(REMOVE_RECURSE ${WORK})
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/first)
file(RENAME ${WORK}/first ${WORK}/prefix)
run(${CMAKE_COMMAND} -S ${SOURCE} -B ${WORK}/build -DCMAKE_PREFIX_PATH=${WORK}/prefix -DCMAKE_BUILD_TYPE=Release)
run(${CMAKE_COMMAND} --build ${WORK}/build --parallel 2)
run(${WORK}/build/consumer)
run(${WORK}/prefix/bin/switchyard list systems)
file(REMOVE_RECURSE ${WORK})
