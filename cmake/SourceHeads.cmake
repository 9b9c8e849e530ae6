# cmake -DSOURCE=<repository> -DOUT=<file> -P SourceHeads.cmake: the head comments of the plug-ins and of the files that
# systems.tsv names, one after the other, each behind a line "=== path". `switchyard explain` reads them where the sources
# are not installed.
file(READ ${SOURCE}/systems.tsv systems)
string(REGEX MATCHALL "src/[A-Za-z0-9_/]+\\.(cpp|h)" files "${systems}")
foreach(folder gates losses experts capacity dispatch models/families steps/kinds)
  file(GLOB_RECURSE found RELATIVE ${SOURCE} ${SOURCE}/src/${folder}/*.cpp)
  list(APPEND files ${found})
endforeach()
list(REMOVE_DUPLICATES files)
list(SORT files)

set(heads "")
foreach(path IN LISTS files)
  string(REGEX REPLACE "\\.cpp$" ".h" header "${path}")  # where the head is when the .cpp has none
  list(APPEND files ${header})
endforeach()
list(REMOVE_DUPLICATES files)
foreach(path IN LISTS files)
  if(EXISTS ${SOURCE}/${path})
    file(READ ${SOURCE}/${path} text)
    if("${text}" MATCHES "^((//[^\n]*\n)+)")
      string(APPEND heads "=== ${path}\n${CMAKE_MATCH_1}")
    endif()
  endif()
endforeach()
file(WRITE ${OUT} "${heads}")
