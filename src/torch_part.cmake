# Everything that works on tensors. One precompiled header for all of it (docs/dependencies.md: libtorch headers cost 10 s
# per file); plug-in folders compile as unity units.
file(GLOB torch_sources CONFIGURE_DEPENDS core/*.cpp comm/*.cpp layer/*.cpp models/*.cpp infer/*.cpp eval/*.cpp)
add_library(switchyard STATIC ${torch_sources})
add_library(switchyard::switchyard ALIAS switchyard)
sw_plugin_table(pool PoolEntry switchyard/gate.h gates/pool switchyard::gates switchyard)
sw_plugin_table(score ScoreEntry switchyard/gate.h gates/score switchyard::gates switchyard)
sw_plugin_table(noise NoiseEntry switchyard/gate.h gates/noise switchyard::gates switchyard)
sw_plugin_table(normalise NormaliseEntry switchyard/gate.h gates/normalise switchyard::gates switchyard)
sw_plugin_table(select SelectEntry switchyard/gate.h gates/select switchyard::gates switchyard)
sw_plugin_table(weigh WeighEntry switchyard/gate.h gates/weigh switchyard::gates switchyard)
sw_plugin_table(balance BalanceEntry switchyard/gate.h gates/balance switchyard::gates switchyard)
sw_plugin_table(keep KeepEntry switchyard/gate.h gates/keep switchyard::gates switchyard)
sw_plugin_table(gate GateEntry switchyard/gate.h gates switchyard switchyard)
sw_plugin_table(join JoinEntry switchyard/join.h join switchyard switchyard)
sw_plugin_table(mixer MixerEntry switchyard/mixer.h mixers switchyard switchyard)
sw_plugin_table(loss LossEntry switchyard/loss.h losses switchyard switchyard)
sw_plugin_table(priority PriorityEntry core/registries.h capacity switchyard switchyard)
sw_plugin_table(expert ExpertEntry switchyard/expert_bank.h experts switchyard switchyard)
sw_plugin_table(dispatcher DispatcherEntry switchyard/dispatcher.h dispatch switchyard switchyard)
sw_plugin_table(family FamilyEntry models/family.h models/families switchyard switchyard)
sw_plugin_table(step StepEntry steps/step.h steps/kinds switchyard switchyard)
file(GLOB step_sources CONFIGURE_DEPENDS steps/*.cpp)
target_sources(switchyard PRIVATE ${step_sources})

target_link_libraries(switchyard PUBLIC switchyard_base torch torch_cpu c10)
target_include_directories(switchyard SYSTEM PUBLIC ${TORCH_INCLUDE_DIRS})
target_precompile_headers(switchyard PRIVATE <torch/types.h> <torch/nn/module.h> <torch/csrc/autograd/custom_function.h>
                          <nlohmann/json.hpp> <fmt/format.h>)
set_target_properties(switchyard PROPERTIES UNITY_BUILD ON UNITY_BUILD_MODE GROUP POSITION_INDEPENDENT_CODE ON)

file(GLOB cli_sources CONFIGURE_DEPENDS cli/*.cpp)
if(cli_sources)
  add_executable(switchyard_program ${cli_sources})
  set_source_files_properties(${cli_sources} PROPERTIES UNITY_GROUP cli)
  set_source_files_properties(${CMAKE_CURRENT_SOURCE_DIR}/cli/share_dir.cpp PROPERTIES COMPILE_DEFINITIONS
    "SW_VERSION=\"${PROJECT_VERSION}\";SW_SHARE_SOURCE_DIR=\"${PROJECT_SOURCE_DIR}\"")
  sw_plugin_table(verb VerbEntry cli/verb.h cli/verbs switchyard::cli switchyard_program)
  target_link_libraries(switchyard_program PRIVATE switchyard)
  target_precompile_headers(switchyard_program REUSE_FROM switchyard)
  set_target_properties(switchyard_program PROPERTIES OUTPUT_NAME switchyard RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}
                        UNITY_BUILD ON UNITY_BUILD_MODE GROUP)
  target_compile_options(switchyard_program PRIVATE -fPIC)  # as the library: the precompiled header asks for equal flags
endif()
