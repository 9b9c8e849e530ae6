# A kernel file named <family>_<isa>.cpp is compiled with the flags of that ISA. A file without such a suffix gets none:
# the probe and the dispatch must run on every CPU.
set(SW_ISA_FLAGS_scalar "")
set(SW_ISA_FLAGS_avx2 -mavx2 -mfma -mf16c)
set(SW_ISA_FLAGS_avx512 -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx2 -mfma -mf16c -mprefer-vector-width=512)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  list(APPEND SW_ISA_FLAGS_avx512 -Wno-maybe-uninitialized)  # false alarms from the compiler's own avx512fintrin.h
endif()
set(SW_ISA_FLAGS_vnni ${SW_ISA_FLAGS_avx512} -mavx512vnni)
set(SW_ISA_FLAGS_amx ${SW_ISA_FLAGS_vnni} -mavx512bf16 -mamx-tile -mamx-bf16 -mamx-int8)

function(sw_isa_flags)
  foreach(file IN LISTS ARGN)
    foreach(isa scalar avx2 avx512 vnni amx)
      if(file MATCHES "_${isa}\\.cpp$")
        set_source_files_properties(${file} PROPERTIES
          COMPILE_OPTIONS "-O3;${SW_ISA_FLAGS_${isa}}" SKIP_PRECOMPILE_HEADERS ON SKIP_UNITY_BUILD_INCLUSION ON)
      endif()
    endforeach()
  endforeach()
endfunction()

# sw_units(NAME SIZE FILES...): these files compile SIZE at a time. libtorch's headers cost more than most files themselves.
function(sw_units name size)
  set(index 0)
  foreach(file IN LISTS ARGN)
    math(EXPR unit "${index} / ${size}")
    set_source_files_properties(${file} PROPERTIES UNITY_GROUP ${name}_${unit})
    math(EXPR index "${index} + 1")
  endforeach()
endfunction()

# sw_plugin_table(KIND ENTRY HEADER DIR NAMESPACE TARGET): every src/<DIR>/<stem>.cpp must define
# <ENTRY> <NAMESPACE>::<KIND>_<stem>();  forgetting it is a link error. The table is generated from the folder, so that
# adding a plug-in edits no shared file and nothing depends on static initialisation.
function(sw_plugin_table kind entry header dir namespace target)
  file(GLOB files CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${dir}/*.cpp)
  set(declarations "")
  set(list "")
  foreach(file IN LISTS files)
    get_filename_component(stem ${file} NAME_WE)
    string(APPEND declarations "${entry} ${kind}_${stem}();\n")
    string(APPEND list "    ${kind}_${stem}(),\n")
  endforeach()
  set(out ${CMAKE_CURRENT_BINARY_DIR}/${kind}_table.cpp)
  file(CONFIGURE OUTPUT ${out} @ONLY CONTENT
"// Generated from src/@dir@ by sw_plugin_table; do not edit.
#include \"@header@\"
namespace @namespace@ {
@declarations@
std::vector<@entry@> builtin_@kind@_entries() {
  return {
@list@  };
}
}  // namespace @namespace@
")
  target_sources(${target} PRIVATE ${files} ${out})
  set_source_files_properties(${out} PROPERTIES UNITY_GROUP tables)
  sw_units(${kind} 8 ${files})
endfunction()
