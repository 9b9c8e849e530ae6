// A tiny model of each family against the tensors and keys that llama.cpp's converter writes for it, written down by hand from
// github.com/ggml-org/llama.cpp (MIT; facts only): gguf-py/gguf/constants.py and tensor_mapping.py at commit 0024aa7417ef;
// conversion/dbrx.py, jamba.py at 7bca1fd9ca2a; granite.py at 010f22d8a3a9; gpt_oss.py at 2984e6e814ce; phi.py, arctic.py, glm.py
// at 051139f51130; deepseek.py at 01a723dc630d; qwen.py at 03173d5e78f8; llama.py at 0274f0fc7d7f; the keys of all from TextModel
// in base.py at 00bd27a621f9.
// This file is long because eighteen lists stand in it, and because what they share is said once.
#include "io/gguf/gguf_config.h"
#include "io/gguf/gguf_model.h"
#include "expect_error.h"
#include "test_files.h"

#include <gtest/gtest.h>

#include <numeric>

namespace switchyard::io {
namespace {
namespace gguf_tables {

using nlohmann::ordered_json;
using testing::TempDir;
using Shape = std::vector<int64_t>;
using Tensors = std::map<std::string, Shape>;

// d = 8, V = 6, 2 heads of 4, 1 of keys, f = 4, 3 experts of which 2 work.
struct Table {
  std::string family;
  ordered_json config;
  Tensors layer;       // of a folder, behind "model.layers.{i}." (or the family's prefix)
  Tensors gguf_layer;  // behind "blk.{i}."
  ordered_json keys;   // all of the architecture
  Tensors outer = {{"model.embed_tokens.weight", {6, 8}}, {"model.norm.weight", {8}}, {"lm_head.weight", {6, 8}}};
  Tensors gguf_outer = {{"token_embd.weight", {6, 8}}, {"output_norm.weight", {8}}, {"output.weight", {6, 8}}};
  std::string prefix = "model.layers.";
};
void PrintTo(const Table& t, std::ostream* out) { *out << t.family; }

ordered_json merged(ordered_json a, const ordered_json& b) {
  for (const auto& [key, value] : b.items()) a[key] = value;
  return a;
}
Tensors merged(Tensors a, const Tensors& b) {
  a.insert(b.begin(), b.end());
  return a;
}

ordered_json config(const char* type, const ordered_json& more) {
  return merged({{"model_type", type},
                 {"hidden_size", 8},
                 {"intermediate_size", 4},
                 {"num_hidden_layers", 1},
                 {"num_attention_heads", 2},
                 {"num_key_value_heads", 1},
                 {"max_position_embeddings", 32},
                 {"rms_norm_eps", 1e-5},
                 {"rope_theta", 1e6},
                 {"vocab_size", 6}},
                more);
}
ordered_json keys(const ordered_json& more) {
  return merged({{"block_count", 1},
                 {"context_length", 32},
                 {"embedding_length", 8},
                 {"attention.head_count", 2},
                 {"attention.head_count_kv", 1},
                 {"attention.layer_norm_rms_epsilon", 1e-5},
                 {"rope.freq_base", 1e6}},
                more);
}

const Tensors kAttention = {{"input_layernorm.weight", {8}},     {"self_attn.q_proj.weight", {8, 8}},
                            {"self_attn.k_proj.weight", {4, 8}}, {"self_attn.v_proj.weight", {4, 8}},
                            {"self_attn.o_proj.weight", {8, 8}}, {"post_attention_layernorm.weight", {8}}};
const Tensors kGgufAttention = {{"attn_norm.weight", {8}}, {"attn_q.weight", {8, 8}},      {"attn_k.weight", {4, 8}},
                                {"attn_v.weight", {4, 8}}, {"attn_output.weight", {8, 8}}, {"ffn_norm.weight", {8}}};
const Tensors kBiases = {{"self_attn.q_proj.bias", {8}}, {"self_attn.k_proj.bias", {4}}, {"self_attn.v_proj.bias", {4}}};
const Tensors kGgufBiases = {{"attn_q.bias", {8}}, {"attn_k.bias", {4}}, {"attn_v.bias", {4}}};
const Tensors kDense = {{"mlp.gate_proj.weight", {4, 8}}, {"mlp.up_proj.weight", {4, 8}}, {"mlp.down_proj.weight", {8, 4}}};
const Tensors kGgufDense = {{"ffn_gate.weight", {4, 8}}, {"ffn_up.weight", {4, 8}}, {"ffn_down.weight", {8, 4}}};
const Tensors kGgufExperts = {{"ffn_gate_inp.weight", {3, 8}},
                              {"ffn_gate_exps.weight", {3, 4, 8}},
                              {"ffn_up_exps.weight", {3, 4, 8}},
                              {"ffn_down_exps.weight", {3, 8, 4}}};
const Tensors kGgufShared = {
    {"ffn_gate_shexp.weight", {4, 8}}, {"ffn_up_shexp.weight", {4, 8}}, {"ffn_down_shexp.weight", {8, 4}}};

Tensors experts(const std::string& router, const std::string& expert, const std::string& gate, const std::string& up,
                const std::string& down) {
  Tensors out = {{router, {3, 8}}};
  for (int e = 0; e < 3; ++e) {
    const auto name = expert + std::to_string(e) + ".";
    out.insert({{name + gate + ".weight", {4, 8}}, {name + up + ".weight", {4, 8}}, {name + down + ".weight", {8, 4}}});
  }
  return out;
}
Tensors mlp_experts() { return experts("mlp.gate.weight", "mlp.experts.", "gate_proj", "up_proj", "down_proj"); }
Tensors mixtral_experts() { return experts("block_sparse_moe.gate.weight", "block_sparse_moe.experts.", "w1", "w3", "w2"); }

const ordered_json kLocalExperts = {{"num_local_experts", 3}, {"num_experts_per_tok", 2}};
const ordered_json kExpertKeys = {{"expert_count", 3}, {"expert_used_count", 2}};

Table dbrx() {
  Table t{"dbrx",
          {{"model_type", "dbrx"},
           {"d_model", 8},
           {"n_layers", 1},
           {"n_heads", 2},
           {"max_seq_len", 32},
           {"vocab_size", 6},
           {"attn_config", {{"clip_qkv", 8.0}, {"kv_n_heads", 1}, {"rope_theta", 5e5}}},
           {"ffn_config", {{"ffn_hidden_size", 4}, {"moe_num_experts", 3}, {"moe_top_k", 2}}}},
          {{"norm_attn_norm.norm_1.weight", {8}},
           {"norm_attn_norm.norm_2.weight", {8}},
           {"norm_attn_norm.attn.Wqkv.weight", {16, 8}},
           {"norm_attn_norm.attn.out_proj.weight", {8, 8}},
           {"ffn.router.layer.weight", {3, 8}},
           {"ffn.experts.mlp.w1", {12, 8}},
           {"ffn.experts.mlp.v1", {12, 8}},
           {"ffn.experts.mlp.w2", {12, 8}}},
          merged(kGgufExperts, {{"attn_norm.weight", {8}},
                                {"attn_qkv.weight", {16, 8}},
                                {"attn_output.weight", {8, 8}},
                                {"attn_output_norm.weight", {8}}}),
          merged({{"block_count", 1},
                  {"context_length", 32},
                  {"embedding_length", 8},
                  {"feed_forward_length", 4},
                  {"attention.head_count", 2},
                  {"attention.head_count_kv", 1},
                  {"rope.freq_base", 5e5},
                  {"attention.clamp_kqv", 8.0},
                  {"attention.layer_norm_epsilon", 1e-5}},
                 kExpertKeys)};
  t.outer = {{"transformer.wte.weight", {6, 8}}, {"transformer.norm_f.weight", {8}}, {"lm_head.weight", {6, 8}}};
  t.prefix = "transformer.blocks.";
  return t;
}

Table granite(bool shared) {
  Table t{shared ? "granitemoeshared" : "granitemoe",
          config(shared ? "granitemoeshared" : "granitemoe", merged(kLocalExperts, {{"attention_multiplier", 0.25},
                                                                                    {"embedding_multiplier", 12.0},
                                                                                    {"residual_multiplier", 0.22},
                                                                                    {"logits_scaling", 6.0}})),
          merged(kAttention, {{"block_sparse_moe.router.layer.weight", {3, 8}},
                              {"block_sparse_moe.input_linear.weight", {3, 8, 8}},
                              {"block_sparse_moe.output_linear.weight", {3, 8, 4}}}),
          merged(kGgufAttention, kGgufExperts),
          keys(merged(kExpertKeys, {{"feed_forward_length", 4},
                                    {"vocab_size", 6},
                                    {"rope.dimension_count", 4},
                                    {"attention.scale", 0.25},
                                    {"embedding_scale", 12.0},
                                    {"residual_scale", 0.22},
                                    {"logit_scale", 6.0}}))};
  if (!shared) return t;
  t.config["shared_intermediate_size"] = 4;
  t.keys["expert_shared_feed_forward_length"] = 4;
  t.layer.insert({{"shared_mlp.input_linear.weight", {8, 8}}, {"shared_mlp.output_linear.weight", {8, 4}}});
  t.gguf_layer.insert(kGgufShared.begin(), kGgufShared.end());
  return t;
}

Table gpt_oss() {
  const ordered_json rope = {{"rope_type", "yarn"}, {"factor", 4.0},     {"beta_fast", 32.0},
                             {"beta_slow", 1.0},    {"truncate", false}, {"original_max_position_embeddings", 16}};
  return {"gpt_oss", config("gpt_oss", merged(kLocalExperts, {{"head_dim", 4}, {"sliding_window", 3}, {"rope_scaling", rope}})),
          merged(merged(kAttention, kBiases), {{"self_attn.o_proj.bias", {8}},
                                               {"self_attn.sinks", {2}},
                                               {"mlp.router.weight", {3, 8}},
                                               {"mlp.router.bias", {3}},
                                               {"mlp.experts.gate_up_proj", {3, 8, 8}},
                                               {"mlp.experts.gate_up_proj_bias", {3, 8}},
                                               {"mlp.experts.down_proj", {3, 4, 8}},
                                               {"mlp.experts.down_proj_bias", {3, 8}}}),
          merged(merged(kGgufExperts, kGgufBiases), {{"attn_norm.weight", {8}},
                                                     {"attn_q.weight", {8, 8}},
                                                     {"attn_k.weight", {4, 8}},
                                                     {"attn_v.weight", {4, 8}},
                                                     {"attn_output.weight", {8, 8}},
                                                     {"attn_output.bias", {8}},
                                                     {"attn_sinks.weight", {2}},
                                                     {"post_attention_norm.weight", {8}},
                                                     {"ffn_gate_inp.bias", {3}},
                                                     {"ffn_gate_exps.bias", {3, 4}},
                                                     {"ffn_up_exps.bias", {3, 4}},
                                                     {"ffn_down_exps.bias", {3, 8}}}),
          keys(merged(kExpertKeys, {{"feed_forward_length", 4},
                                    {"expert_feed_forward_length", 4},
                                    {"attention.key_length", 4},
                                    {"attention.value_length", 4},
                                    {"attention.sliding_window", 3},
                                    {"rope.scaling.type", "yarn"},
                                    {"rope.scaling.factor", 4.0},
                                    {"rope.scaling.original_context_length", 16},
                                    {"rope.scaling.yarn_beta_fast", 32.0},
                                    {"rope.scaling.yarn_beta_slow", 1.0}}))};
}

Table phimoe() {
  const ordered_json rope = {
      {"type", "longrope"}, {"original_max_position_embeddings", 8}, {"short_factor", {1.0, 1.25}}, {"long_factor", {1.5, 3.0}}};
  Table t{"phimoe",
          config("phimoe", merged(kLocalExperts, {{"attention_bias", true}, {"lm_head_bias", true}, {"rope_scaling", rope}})),
          merged(merged(kAttention, kBiases),
                 merged(mixtral_experts(),
                        {{"self_attn.o_proj.bias", {8}}, {"input_layernorm.bias", {8}}, {"post_attention_layernorm.bias", {8}}})),
          merged(merged(kGgufAttention, kGgufBiases),
                 merged(kGgufExperts, {{"attn_output.bias", {8}}, {"attn_norm.bias", {8}}, {"ffn_norm.bias", {8}}})),
          // sqrt(1 + ln(32 / 8) / ln 8) = sqrt(5 / 3)
          keys(merged(kExpertKeys, {{"feed_forward_length", 4},
                                    {"rope.dimension_count", 4},
                                    {"attention.sliding_window", 0},
                                    {"rope.scaling.original_context_length", 8},
                                    {"rope.scaling.attn_factor", 1.2909944}}))};
  t.outer.insert({{"model.norm.bias", {8}}, {"lm_head.bias", {6}}});
  t.gguf_outer.insert(
      {{"output_norm.bias", {8}}, {"output.bias", {6}}, {"rope_factors_long.weight", {2}}, {"rope_factors_short.weight", {2}}});
  return t;
}

Table arctic() {
  return {
      "arctic", config("arctic", kLocalExperts),
      merged(merged(kAttention, mixtral_experts()), {{"residual_layernorm.weight", {8}},
                                                     {"residual_mlp.w1.weight", {8, 8}},
                                                     {"residual_mlp.w2.weight", {8, 8}},
                                                     {"residual_mlp.w3.weight", {8, 8}}}),
      merged(
          merged(kGgufAttention, kGgufExperts),
          {{"ffn_norm_exps.weight", {8}}, {"ffn_gate.weight", {8, 8}}, {"ffn_up.weight", {8, 8}}, {"ffn_down.weight", {8, 8}}}),
      keys(merged(kExpertKeys, {{"feed_forward_length", 4}, {"vocab_size", 6}, {"rope.dimension_count", 4}}))};
}

const ordered_json kRouted = {{"moe_intermediate_size", 4}, {"n_routed_experts", 3},        {"n_shared_experts", 1},
                              {"num_experts_per_tok", 2},   {"routed_scaling_factor", 2.5}, {"first_k_dense_replace", 0}};
const ordered_json kRoutedKeys = {
    {"feed_forward_length", 4},      {"expert_feed_forward_length", 4}, {"expert_count", 3},
    {"expert_used_count", 2},        {"expert_shared_count", 1},        {"expert_weights_scale", 2.5},
    {"leading_dense_block_count", 0}};
const Tensors kShared = {{"mlp.shared_experts.gate_proj.weight", {4, 8}},
                         {"mlp.shared_experts.up_proj.weight", {4, 8}},
                         {"mlp.shared_experts.down_proj.weight", {8, 4}}};

Table glm4_moe() {
  return {"glm4_moe",
          config("glm4_moe", merged(kRouted, {{"head_dim", 4},
                                              {"partial_rotary_factor", 0.5},
                                              {"attention_bias", true},
                                              {"use_qk_norm", true},
                                              {"norm_topk_prob", true},
                                              {"n_group", 1},
                                              {"topk_group", 1}})),
          merged(merged(merged(kAttention, kBiases), merged(mlp_experts(), kShared)),
                 {{"self_attn.q_norm.weight", {4}}, {"self_attn.k_norm.weight", {4}}, {"mlp.gate.e_score_correction_bias", {3}}}),
          merged(merged(merged(kGgufBiases, kGgufExperts), kGgufShared), {{"attn_norm.weight", {8}},
                                                                          {"attn_q.weight", {8, 8}},
                                                                          {"attn_k.weight", {4, 8}},
                                                                          {"attn_v.weight", {4, 8}},
                                                                          {"attn_output.weight", {8, 8}},
                                                                          {"attn_q_norm.weight", {4}},
                                                                          {"attn_k_norm.weight", {4}},
                                                                          {"post_attention_norm.weight", {8}},
                                                                          {"exp_probs_b.bias", {3}}}),
          keys(merged(kRoutedKeys, {{"attention.key_length", 4},
                                    {"attention.value_length", 4},
                                    {"rope.dimension_count", 2},
                                    {"expert_gating_func", 2},
                                    {"expert_weights_norm", true},
                                    {"expert_group_count", 1},
                                    {"expert_group_used_count", 1}}))};
}

// Latent attention: ranks 6 and 4, 3 values of a key without position, 2 with, 5 of a value.
Table deepseek(bool third) {
  const char* type = third ? "deepseek_v3" : "deepseek_v2";
  const ordered_json rope = {{"type", "yarn"},
                             {"factor", 4.0},
                             {"beta_fast", 32},
                             {"beta_slow", 1},
                             {"mscale", 0.707},
                             {"mscale_all_dim", 0.707},
                             {"original_max_position_embeddings", 16}};
  Table t{type,
          config(type, merged(kRouted, {{"num_key_value_heads", 2},
                                        {"q_lora_rank", 6},
                                        {"kv_lora_rank", 4},
                                        {"qk_nope_head_dim", 3},
                                        {"qk_rope_head_dim", 2},
                                        {"v_head_dim", 5},
                                        {"n_group", 3},
                                        {"topk_group", 2},
                                        {"scoring_func", third ? "sigmoid" : "softmax"},
                                        {"topk_method", third ? "noaux_tc" : "group_limited_greedy"},
                                        {"norm_topk_prob", third},
                                        {"rope_scaling", rope}})),
          merged(merged(mlp_experts(), kShared), {{"input_layernorm.weight", {8}},
                                                  {"post_attention_layernorm.weight", {8}},
                                                  {"self_attn.q_a_proj.weight", {6, 8}},
                                                  {"self_attn.q_a_layernorm.weight", {6}},
                                                  {"self_attn.q_b_proj.weight", {10, 6}},
                                                  {"self_attn.kv_a_proj_with_mqa.weight", {6, 8}},
                                                  {"self_attn.kv_a_layernorm.weight", {4}},
                                                  {"self_attn.kv_b_proj.weight", {16, 4}},
                                                  {"self_attn.o_proj.weight", {8, 10}}}),
          merged(merged(kGgufExperts, kGgufShared), {{"attn_norm.weight", {8}},
                                                     {"ffn_norm.weight", {8}},
                                                     {"attn_q_a.weight", {6, 8}},
                                                     {"attn_q_a_norm.weight", {6}},
                                                     {"attn_q_b.weight", {10, 6}},
                                                     {"attn_kv_a_mqa.weight", {6, 8}},
                                                     {"attn_kv_a_norm.weight", {4}},
                                                     {"attn_k_b.weight", {2, 4, 3}},
                                                     {"attn_v_b.weight", {2, 5, 4}},
                                                     {"attn_output.weight", {8, 10}}}),
          keys(merged(kRoutedKeys, {{"vocab_size", 6},
                                    {"attention.head_count_kv", 1},
                                    {"attention.q_lora_rank", 6},
                                    {"attention.kv_lora_rank", 4},
                                    {"attention.key_length", 6},
                                    {"attention.value_length", 4},
                                    {"attention.key_length_mla", 5},
                                    {"attention.value_length_mla", 5},
                                    {"rope.dimension_count", 2},
                                    {"expert_group_count", 3},
                                    {"expert_group_used_count", 2},
                                    {"expert_gating_func", third ? 2 : 1},
                                    {"rope.scaling.type", "yarn"},
                                    {"rope.scaling.factor", 4.0},
                                    {"rope.scaling.original_context_length", 16},
                                    {"rope.scaling.yarn_beta_fast", 32.0},
                                    {"rope.scaling.yarn_beta_slow", 1.0},
                                    {"rope.scaling.yarn_log_multiplier", 0.0707}}))};
  if (!third) return t;
  t.keys["expert_weights_norm"] = true;
  t.layer["mlp.gate.e_score_correction_bias"] = t.gguf_layer["exp_probs_b.bias"] = {3};
  return t;
}

Table deepseek_moe() {
  return {
      "deepseek",
      config("deepseek",
             merged(kRouted, {{"routed_scaling_factor", 1.0}, {"norm_topk_prob", false}, {"scoring_func", "softmax"}})),
      merged(merged(kAttention, mlp_experts()), kShared), merged(merged(kGgufAttention, kGgufExperts), kGgufShared),
      keys(merged(kRoutedKeys,
                  {{"vocab_size", 6}, {"rope.dimension_count", 4}, {"expert_weights_scale", 1.0}, {"expert_gating_func", 1}}))};
}

// One layer of each kind: layer 0 a state space, layer 1 attention; experts in layer 1.
Table jamba() {
  const Tensors mamba = {{"mamba.in_proj.weight", {32, 8}},
                         {"mamba.conv1d.weight", {16, 1, 4}},
                         {"mamba.conv1d.bias", {16}},
                         {"mamba.x_proj.weight", {7, 16}},
                         {"mamba.dt_proj.weight", {16, 1}},
                         {"mamba.dt_proj.bias", {16}},
                         {"mamba.dt_layernorm.weight", {1}},
                         {"mamba.b_layernorm.weight", {3}},
                         {"mamba.c_layernorm.weight", {3}},
                         {"mamba.A_log", {16, 3}},
                         {"mamba.D", {16}},
                         {"mamba.out_proj.weight", {8, 16}}};
  const Tensors gguf_mamba = {{"ssm_in.weight", {32, 8}},
                              {"ssm_conv1d.weight", {16, 4}},
                              {"ssm_conv1d.bias", {16}},
                              {"ssm_x.weight", {7, 16}},
                              {"ssm_dt.weight", {16, 1}},
                              {"ssm_dt.bias", {16}},
                              {"ssm_dt_norm.weight", {1}},
                              {"ssm_b_norm.weight", {3}},
                              {"ssm_c_norm.weight", {3}},
                              {"ssm_a", {16, 3}},
                              {"ssm_d", {16}},
                              {"ssm_out.weight", {8, 16}}};
  Table t{
      "jamba",
      config("jamba", {{"num_hidden_layers", 1},
                       {"num_experts", 3},
                       {"num_experts_per_tok", 2},
                       {"attn_layer_period", 2},
                       {"attn_layer_offset", 1},
                       {"expert_layer_period", 1},
                       {"expert_layer_offset", 0},
                       {"mamba_expand", 2},
                       {"mamba_d_conv", 4},
                       {"mamba_d_state", 3},
                       {"mamba_dt_rank", 1}}),
      merged(merged(mamba, experts("feed_forward.router.weight", "feed_forward.experts.", "gate_proj", "up_proj", "down_proj")),
             {{"input_layernorm.weight", {8}}, {"pre_ff_layernorm.weight", {8}}}),
      merged(merged(gguf_mamba, kGgufExperts), {{"attn_norm.weight", {8}}, {"ffn_norm.weight", {8}}}),
      {{"block_count", 1},
       {"context_length", 32},
       {"embedding_length", 8},
       {"feed_forward_length", 4},
       {"attention.head_count", 2},
       {"attention.head_count_kv", {0}},
       {"attention.layer_norm_rms_epsilon", 1e-5},
       {"ssm.conv_kernel", 4},
       {"ssm.inner_size", 16},
       {"ssm.state_size", 3},
       {"ssm.time_step_rank", 1},
       {"expert_count", 3},
       {"expert_used_count", 2}}};
  t.outer = {{"model.embed_tokens.weight", {6, 8}}, {"model.final_layernorm.weight", {8}}, {"lm_head.weight", {6, 8}}};
  return t;
}

std::vector<Table> tables() {
  const Tensors norms = {{"self_attn.q_norm.weight", {4}}, {"self_attn.k_norm.weight", {4}}},
                gguf_norms = {{"attn_q_norm.weight", {4}}, {"attn_k_norm.weight", {4}}};
  const Tensors full = {{"self_attn.q_norm.weight", {8}}, {"self_attn.k_norm.weight", {4}}},
                gguf_full = {{"attn_q_norm.weight", {8}}, {"attn_k_norm.weight", {4}}};
  const Tensors shared = {{"mlp.shared_expert_gate.weight", {1, 8}},
                          {"mlp.shared_expert.gate_proj.weight", {4, 8}},
                          {"mlp.shared_expert.up_proj.weight", {4, 8}},
                          {"mlp.shared_expert.down_proj.weight", {8, 4}}};
  const ordered_json width = {{"feed_forward_length", 4}}, head = {{"attention.key_length", 4}, {"attention.value_length", 4}};
  const ordered_json many = {{"num_experts", 3}, {"num_experts_per_tok", 2}, {"moe_intermediate_size", 4}};
  const ordered_json many_keys = merged(merged(width, kExpertKeys), {{"expert_feed_forward_length", 4}});
  const ordered_json llama = {{"vocab_size", 6}, {"rope.dimension_count", 4}};
  return {{"llama", config("llama", {{"head_dim", 4}}), merged(kAttention, kDense), merged(kGgufAttention, kGgufDense),
           keys(merged(merged(width, head), llama))},
          {"mixtral", config("mixtral", kLocalExperts), merged(kAttention, mixtral_experts()),
           merged(kGgufAttention, kGgufExperts), keys(merged(merged(width, kExpertKeys), llama))},
          {"qwen2", config("qwen2", {}), merged(merged(kAttention, kBiases), kDense),
           merged(merged(kGgufAttention, kGgufBiases), kGgufDense), keys(width)},
          {"qwen3", config("qwen3", {{"head_dim", 4}}), merged(merged(kAttention, norms), kDense),
           merged(merged(kGgufAttention, gguf_norms), kGgufDense), keys(merged(width, head))},
          {"qwen2_moe", config("qwen2_moe", merged(many, {{"shared_expert_intermediate_size", 4}})),
           merged(merged(kAttention, kBiases), merged(mlp_experts(), shared)),
           merged(merged(merged(kGgufAttention, kGgufBiases), merged(kGgufExperts, kGgufShared)),
                  {{"ffn_gate_inp_shexp.weight", {1, 8}}}),
           keys(merged(many_keys, {{"expert_shared_feed_forward_length", 4}}))},
          {"qwen3_moe", config("qwen3_moe", merged(many, {{"head_dim", 4}, {"norm_topk_prob", true}})),
           merged(merged(kAttention, norms), mlp_experts()), merged(merged(kGgufAttention, gguf_norms), kGgufExperts),
           keys(merged(many_keys, head))},
          {"olmoe", config("olmoe", {{"num_experts", 3}, {"num_experts_per_tok", 2}, {"clip_qkv", 8.0}}),
           merged(merged(kAttention, full), mlp_experts()), merged(merged(kGgufAttention, gguf_full), kGgufExperts),
           keys(merged(merged(width, kExpertKeys), {{"attention.clamp_kqv", 8.0}}))},
          dbrx(),
          granite(false),
          granite(true),
          gpt_oss(),
          phimoe(),
          arctic(),
          glm4_moe(),
          deepseek_moe(),
          deepseek(false),
          deepseek(true),
          jamba()};
}

// Every value is another number, in all tensors together.
struct Numbered {
  std::vector<std::unique_ptr<std::vector<float>>> values;
  std::unique_ptr<TensorView> view = std::make_unique<TensorView>("weights", nullptr);
  float next = 1;

  void add(const std::string& name, const Shape& shape) {
    const auto n = std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
    auto& list = *values.emplace_back(std::make_unique<std::vector<float>>(static_cast<size_t>(n)));
    for (float& value : list) value = name.ends_with("A_log") ? 0.0F : next++;
    view->add({name, DType::f32, shape, std::as_bytes(std::span(list))}, "weights");
  }
};

Numbered weights_of(const Table& t) {
  Numbered out;
  for (const auto& [name, shape] : t.outer) out.add(name, shape);
  for (const auto& [name, shape] : t.layer) out.add(t.prefix + "0." + name, shape);
  return out;
}

std::vector<float> floats(const TensorEntry& entry) {
  std::vector<float> out(static_cast<size_t>(entry.numel()));
  to_float32(entry, out.data());
  return out;
}

class GgufTables : public ::testing::TestWithParam<Table> {};

TEST_P(GgufTables, TensorsAndKeysAreThoseOfTheConverter) {
  const Table& t = GetParam();
  const TempDir dir;
  const Numbered w = weights_of(t);
  const GgufPlan plan = plan_gguf(t.config, *w.view, nullptr, {}, {});
  Tensors found, wanted = t.gguf_outer;
  for (const auto& [name, shape] : t.gguf_layer) wanted["blk.0." + name] = shape;
  for (const GgufTensorSource& tensor : plan.tensors) found[tensor.name] = tensor.shape;
  EXPECT_EQ(found, wanted);

  ordered_json keys = ordered_json::object();
  const GgufFamily& family = gguf_family_of(t.family);
  const std::string prefix = std::string(family.architecture) + ".";
  for (const auto& [key, value] : plan.metadata)
    if (key.starts_with(prefix)) keys[key.substr(prefix.size())] = to_json(value);
  for (const auto& [key, value] : t.keys.items()) {
    ASSERT_TRUE(keys.contains(key)) << key;
    EXPECT_EQ(keys[key], value) << key;
  }
  for (const auto& [key, value] : keys.items()) EXPECT_TRUE(t.keys.contains(key)) << key;
}

TEST_P(GgufTables, EveryTensorAndValueOfTheConfigComesBack) {
  const Table& t = GetParam();
  const TempDir dir;
  const Numbered w = weights_of(t);
  const GgufPlan plan = plan_gguf(t.config, *w.view, nullptr, {}, {});
  write_gguf(dir / "m.gguf", plan.metadata, plan.tensors);
  const GgufModel back = open_gguf_model(dir / "m.gguf");
  ASSERT_EQ(back.tensors->entries().size(), w.view->entries().size());
  for (const TensorEntry* entry : w.view->entries()) {
    EXPECT_EQ(back.tensors->at(entry->name).shape, entry->shape) << entry->name;
    EXPECT_EQ(floats(back.tensors->at(entry->name)), floats(*entry)) << entry->name;
  }
  for (const auto& [key, value] : t.config.items()) {
    if (key == "rope_scaling" || (t.family == "jamba" && key != "mamba_expand"))
      continue;  // other words for the same; one layer has no period
    ASSERT_TRUE(back.config.contains(key)) << key;
    EXPECT_EQ(nlohmann::json(back.config[key]), nlohmann::json(value)) << key;  // in any order
  }
}

// A key of the architecture that no table has is refused, in every family.
TEST_P(GgufTables, UnknownKeysAreRefused) {
  const Table& t = GetParam();
  const TempDir dir;
  const Numbered w = weights_of(t);
  GgufPlan plan = plan_gguf(t.config, *w.view, nullptr, {}, {});
  plan.metadata.emplace_back(std::string(gguf_family_of(t.family).architecture) + ".attention.temperature_scale", gguf_f32(0.5));
  write_gguf(dir / "m.gguf", plan.metadata, plan.tensors);
  testing::expect_error(ErrorKind::unsupported, {"attention.temperature_scale", "0.5", "may change what the model computes"},
                        [&] { (void)open_gguf_model(dir / "m.gguf"); });
}

INSTANTIATE_TEST_SUITE_P(All, GgufTables, ::testing::ValuesIn(tables()), [](const auto& info) { return info.param.family; });

TEST(GgufTablesAll, EveryFamilyHasAList) {
  const auto listed = tables();
  for (const GgufFamily& family : gguf_families())
    EXPECT_TRUE(std::any_of(listed.begin(), listed.end(), [&](const Table& t) { return t.family == family.model_type; }))
        << family.model_type;
}

// Files of before 2025 hold kv_b as one tensor, and the widths of heads under the plain keys.
TEST(GgufTablesAll, OlderLatentFilesAreRead) {
  const Table t = deepseek(false);
  const TempDir dir;
  const Numbered w = weights_of(t);
  GgufPlan plan = plan_gguf(t.config, *w.view, nullptr, {}, {});
  std::erase_if(plan.tensors, [](const auto& tensor) {
    return tensor.name == "blk.0.attn_k_b.weight" || tensor.name == "blk.0.attn_v_b.weight";
  });
  const TensorEntry& kv_b = w.view->at("model.layers.0.self_attn.kv_b_proj.weight");
  plan.tensors.push_back({"blk.0.attn_kv_b.weight", GgmlType::f32, kv_b.shape, [&](Sink& sink) { sink.write(kv_b.bytes); }});
  for (const char* key : {"key_length_mla", "value_length_mla"})
    std::erase_if(plan.metadata, [&](const auto& item) { return item.first == std::string("deepseek2.attention.") + key; });
  std::erase_if(plan.metadata,
                [&](const auto& item) { return item.first.starts_with("deepseek2.expert_g"); });  // groups and gating
  KeyWriter keys("deepseek2", plan.metadata);
  keys.size("attention.head_count_kv", 2);
  keys.size("attention.key_length", 5);
  keys.size("attention.value_length", 5);
  write_gguf(dir / "old.gguf", plan.metadata, plan.tensors);
  const GgufModel back = open_gguf_model(dir / "old.gguf");
  EXPECT_EQ(floats(back.tensors->at(kv_b.name)), floats(kv_b));
  EXPECT_EQ(back.config["qk_nope_head_dim"], 3);
  EXPECT_EQ(back.config["v_head_dim"], 5);
  EXPECT_EQ(back.config["scoring_func"], "softmax");
  EXPECT_EQ(back.config["topk_method"], "greedy");
}

TEST(GgufTablesAll, HalvesThatAreMissingAreNamed) {
  const Table t = gpt_oss();
  const TempDir dir;
  const Numbered w = weights_of(t);
  GgufPlan plan = plan_gguf(t.config, *w.view, nullptr, {}, {});
  std::erase_if(plan.tensors, [](const auto& tensor) { return tensor.name == "blk.0.ffn_up_exps.weight"; });
  write_gguf(dir / "m.gguf", plan.metadata, plan.tensors);
  testing::expect_error(ErrorKind::checkpoint,
                        {"'model.layers.0.mlp.experts.gate_up_proj' has 192 values", "have 96", "'blk.0.ffn_gate_exps.weight'"},
                        [&] { (void)open_gguf_model(dir / "m.gguf"); });
}

}  // namespace gguf_tables
}  // namespace
}  // namespace switchyard::io
