// Families without reference outputs at hand: the names and shapes that published files have, written down here from their lists of
// tensors, and a tiny model that survives saving and loading, tensors, bytes, logits and config.
#include "base/config_tree.h"
#include "base/files.h"
#include "io/safetensors_set.h"
#include "models/canonical_spec.h"
#include "models/family.h"
#include "switchyard/checkpoint.h"
#include "test_files.h"

#include <gtest/gtest.h>

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <map>

namespace switchyard::published_layouts_test {  // its own: tests of a folder compile as one unit
namespace {

using json = nlohmann::ordered_json;

struct Layout {
  std::string family;
  json config;
  std::vector<std::pair<std::string, std::vector<int64_t>>> tensors;  // some of them; `count` of all
  size_t count;
};
void PrintTo(const Layout& l, std::ostream* out) { *out << l.family; }

// d = 16, V = 40, H = 4, G = 2, c = 4, f = 12, N = 4, k = 2.
json base(const char* type, int64_t layers) {
  return {{"model_type", type}, {"vocab_size", 40}, {"hidden_size", 16}, {"num_hidden_layers", layers}, {"num_attention_heads", 4}, {"num_key_value_heads", 2},
          {"head_dim", 4}, {"max_position_embeddings", 64}, {"intermediate_size", 12}, {"initializer_range", 0.3}};
}
json with(json config, const json& more) {
  for (const auto& [key, value] : more.items()) config[key] = value;
  return config;
}

std::vector<Layout> layouts() {
  const std::string l0 = "model.layers.0.", l1 = "model.layers.1.";
  return {
      {"qwen3", base("qwen3", 1), {{l0 + "self_attn.q_norm.weight", {4}}, {l0 + "self_attn.k_norm.weight", {4}}, {l0 + "mlp.gate_proj.weight", {12, 16}}}, 14},
      {"mistral", with(base("mistral", 1), {{"sliding_window", 5}}), {{l0 + "mlp.down_proj.weight", {16, 12}}, {l0 + "self_attn.o_proj.weight", {16, 16}}}, 3 + 9},
      {"granitemoeshared", with(base("granitemoeshared", 1), {{"num_local_experts", 4}, {"num_experts_per_tok", 2}, {"shared_intermediate_size", 6}, {"embedding_multiplier", 12.0}, {"logits_scaling", 6.0},
                                                              {"attention_multiplier", 0.2}, {"residual_multiplier", 0.22}}),
       {{l0 + "shared_mlp.input_linear.weight", {12, 16}}, {l0 + "shared_mlp.output_linear.weight", {16, 6}}, {l0 + "block_sparse_moe.input_linear.weight", {4, 24, 16}}}, 3 + 6 + 5},
      {"qwen3_moe", with(base("qwen3_moe", 2), {{"moe_intermediate_size", 6}, {"num_experts", 4}, {"num_experts_per_tok", 2}, {"norm_topk_prob", true}, {"mlp_only_layers", {0}}}),
       {{l0 + "mlp.gate_proj.weight", {12, 16}}, {l1 + "mlp.gate.weight", {4, 16}}, {l1 + "mlp.experts.3.down_proj.weight", {16, 6}}, {l1 + "self_attn.q_norm.weight", {4}}}, 3 + 8 + 3 + 8 + 13},
      {"deepseek", with(base("deepseek", 2), {{"moe_intermediate_size", 6}, {"n_routed_experts", 4}, {"n_shared_experts", 2}, {"num_experts_per_tok", 2}, {"first_k_dense_replace", 1},
                                              {"norm_topk_prob", false}, {"scoring_func", "softmax"}, {"aux_loss_alpha", 0.001}, {"seq_aux", true}, {"moe_layer_freq", 1}}),
       {{l0 + "mlp.up_proj.weight", {12, 16}}, {l1 + "mlp.gate.weight", {4, 16}}, {l1 + "mlp.experts.0.gate_proj.weight", {6, 16}}, {l1 + "mlp.shared_experts.gate_proj.weight", {12, 16}},
        {l1 + "mlp.shared_experts.down_proj.weight", {16, 12}}}, 3 + 6 + 3 + 6 + 16},
      {"glm4_moe", with(base("glm4_moe", 2), {{"moe_intermediate_size", 6}, {"n_routed_experts", 4}, {"n_shared_experts", 1}, {"num_experts_per_tok", 2}, {"first_k_dense_replace", 1},
                                              {"norm_topk_prob", true}, {"routed_scaling_factor", 2.5}, {"partial_rotary_factor", 0.5}, {"attention_bias", true}, {"use_qk_norm", true},
                                              {"n_group", 1}, {"topk_group", 1}, {"num_nextn_predict_layers", 1}}),
       {{l0 + "self_attn.q_proj.bias", {16}}, {l0 + "self_attn.k_norm.weight", {4}}, {l1 + "mlp.gate.e_score_correction_bias", {4}}, {l1 + "mlp.shared_experts.up_proj.weight", {6, 16}}},
       3 + 11 + 3 + 11 + 17},
      {"minimax_m2", with(base("minimax_m2", 1), {{"num_local_experts", 4}, {"num_experts_per_tok", 2}, {"rotary_dim", 2}, {"scoring_func", "sigmoid"}, {"use_routing_bias", true}, {"use_qk_norm", true}, {"num_mtp_modules", 3}}),
       {{l0 + "self_attn.q_norm.weight", {16}}, {l0 + "self_attn.k_norm.weight", {8}}, {l0 + "block_sparse_moe.e_score_correction_bias", {4}}, {l0 + "block_sparse_moe.experts.1.w2.weight", {16, 12}}}, 3 + 8 + 14},
      {"minimax", with(base("minimax", 2), {{"num_local_experts", 4}, {"num_experts_per_tok", 2}, {"rotary_dim", 2}, {"block_size", 8}, {"layer_types", {"linear_attention", "full_attention"}},
                                            {"full_attn_alpha_factor", 3.5}, {"linear_attn_alpha_factor", 1.5}, {"mlp_alpha_factor", 0.5}, {"full_attn_beta_factor", 0.9},
                                            {"linear_attn_beta_factor", 1.1}, {"mlp_beta_factor", 1.2}}),
       {{l0 + "self_attn.qkv_proj.weight", {48, 16}}, {l0 + "self_attn.output_gate.weight", {16, 16}}, {l0 + "self_attn.out_proj.weight", {16, 16}}, {l0 + "self_attn.norm.weight", {16}},
        {l1 + "self_attn.q_proj.weight", {16, 16}}, {l1 + "block_sparse_moe.experts.3.w3.weight", {12, 16}}}, 3 + 6 + 13 + 6 + 13},
      {"phimoe", with(base("phimoe", 1), {{"num_local_experts", 4}, {"num_experts_per_tok", 2}, {"attention_bias", true}, {"lm_head_bias", true}, {"router_jitter_noise", 0.01}, {"input_jitter_noise", 0.01},
                                          {"rope_scaling", {{"type", "longrope"}, {"short_factor", {1.0, 1.2}}, {"long_factor", {1.5, 3.0}}, {"short_mscale", 1.1}, {"long_mscale", 1.2}, {"original_max_position_embeddings", 8}}}}),
       {{l0 + "input_layernorm.bias", {16}}, {"model.norm.bias", {16}}, {"lm_head.bias", {40}}, {l0 + "self_attn.o_proj.bias", {16}}, {l0 + "block_sparse_moe.gate.weight", {4, 16}}}, 5 + 12 + 13},
      {"arctic", with(base("arctic", 1), {{"num_local_experts", 4}, {"num_experts_per_tok", 2}, {"moe_layer_frequency", 1}, {"parallel_attn_mlp_res", true}, {"use_residual", true}}),
       {{l0 + "residual_layernorm.weight", {16}}, {l0 + "residual_mlp.w1.weight", {16, 16}}, {l0 + "residual_mlp.w2.weight", {16, 16}}, {l0 + "block_sparse_moe.experts.2.w3.weight", {12, 16}}}, 3 + 6 + 4 + 13},
      {"gpt_oss", with(base("gpt_oss", 2), {{"num_local_experts", 4}, {"num_experts_per_tok", 2}, {"sliding_window", 3}, {"layer_types", {"sliding_attention", "full_attention"}}, {"attention_bias", true},
                                            {"rope_scaling", {{"rope_type", "yarn"}, {"factor", 4.0}, {"beta_fast", 32.0}, {"beta_slow", 1.0}, {"truncate", false}, {"original_max_position_embeddings", 16}}}}),
       {{l0 + "self_attn.sinks", {4}}, {l0 + "mlp.router.bias", {4}}, {l0 + "mlp.experts.gate_up_proj", {4, 16, 24}}, {l0 + "mlp.experts.gate_up_proj_bias", {4, 24}}, {l0 + "mlp.experts.down_proj", {4, 12, 16}},
        {l0 + "mlp.experts.down_proj_bias", {4, 16}}}, 3 + 2 * (11 + 6)},
  };
}

class PublishedLayouts : public ::testing::TestWithParam<Layout> {};

torch::Tensor logits_of(LanguageModel& model) {
  const c10::NoGradGuard no_grad;
  model.eval();
  const auto ids = (torch::arange(24, torch::kInt64) * 7 % 40).view({2, 12});
  return model.logits(model.forward({.input_ids = ids, .positions = {}, .segments = {}}).hidden);
}

TEST_P(PublishedLayouts, NamesAndShapesAreThosePublishedAndModelsSurvive) {
  const auto& layout = GetParam();
  const testing::TempDir dir;
  const auto spec = find_family(layout.family).family->read_config(config_from_json(layout.config, "config.json"));
  EXPECT_EQ(cannot_state(find_family(layout.family), spec), std::nullopt);
  Checkpoint saved;
  saved.model = std::make_shared<LanguageModel>(spec, 3);
  {
    const c10::NoGradGuard no_grad;  // nothing may hide behind ones and zeros
    for (const auto& item : saved.model->named_parameters()) item.value().add_(0.05 * at::arange(item.value().numel()).sin().view(item.value().sizes()));
    for (const auto& item : saved.model->named_buffers())
      if (item.key().ends_with("balance.bias")) item.value().copy_(at::arange(item.value().numel()) * 0.1);
  }
  save_checkpoint(saved, dir / "a", {.family = layout.family});
  const auto files = SafetensorsSet::open(dir / "a");
  for (const auto& [name, shape] : layout.tensors) {
    const TensorEntry* entry = files.find(name);
    ASSERT_TRUE(entry) << name;
    EXPECT_EQ(entry->shape, shape) << name;
  }
  EXPECT_EQ(files.entries().size(), layout.count);

  const auto loaded = load_checkpoint(dir / "a");
  EXPECT_EQ(loaded.family, layout.family);
  EXPECT_TRUE(torch::equal(logits_of(*loaded.model), logits_of(*saved.model)));
  save_checkpoint(loaded, dir / "b");
  for (const char* file : {"config.json", "model.safetensors"}) EXPECT_EQ(read_text_file(dir / "a" / file), read_text_file(dir / "b" / file)) << file;
}

INSTANTIATE_TEST_SUITE_P(All, PublishedLayouts, ::testing::ValuesIn(layouts()), [](const auto& info) { return info.param.family; });

// A config without layer_types means the order of its family: first a window or full attention, then the other kind, in turn.
TEST(LayerTypes, LeftOutMeanTheOrderOfTheFamily) {
  const std::map<std::string, std::vector<std::string>> orders = {{"gpt_oss", {"sliding_attention", "full_attention", "sliding_attention"}},
                                                                  {"minimax", {"full_attention", "linear_attention", "full_attention"}}};
  size_t seen = 0;
  for (const auto& layout : layouts()) {
    const auto order = orders.find(layout.family);
    if (order == orders.end()) continue;
    auto config = with(layout.config, {{"num_hidden_layers", 3}});
    const auto read = [&] { return to_json(find_family(layout.family).family->read_config(config_from_json(config, "config.json"))); };
    config.erase("layer_types");
    const auto left_out = read();
    config["layer_types"] = order->second;
    EXPECT_EQ(first_difference(read(), left_out), "") << layout.family;
    ++seen;
  }
  EXPECT_EQ(seen, orders.size());
}

// Each kind of branch has its factors, and the norm inside linear attention its own constant, whatever rms_norm_eps is.
TEST(MiniMax, EveryKindOfBranchHasItsFactors) {
  Layout layout;
  for (auto& l : layouts())
    if (l.family == "minimax") layout = l;
  const ModelSpec spec = find_family("minimax").family->read_config(config_from_json(layout.config, "config.json"));
  const LayerPlan linear = spec.layer(0), full = spec.layer(1);
  EXPECT_EQ(linear.mixer->kind, "lightning");
  EXPECT_EQ(to_json(*linear.mixer->options.find("norm_eps")), 1e-6);
  EXPECT_NE(spec.norm_eps, 1e-6);
  const auto pair = [](const SumSpec& sum) { return std::pair(sum.stream_scale, sum.residual_scale); };
  EXPECT_EQ(pair(linear.mixer_sum), std::pair(1.5, 1.1));
  EXPECT_EQ(pair(full.mixer_sum), std::pair(3.5, 0.9));
  for (const LayerPlan& plan : {linear, full}) EXPECT_EQ(pair(plan.network_sum), std::pair(0.5, 1.2));
}

// gpt-oss: column 2j of the joint matrix is the gate of neuron j, column 2j + 1 its up half; matrices are stored transposed.
TEST(GptOss, ColumnsOfGateAndUpStandInTurn) {
  const testing::TempDir dir;
  Layout layout;
  for (auto& l : layouts())
    if (l.family == "gpt_oss") layout = l;
  Checkpoint saved;
  saved.model = std::make_shared<LanguageModel>(find_family("gpt_oss").family->read_config(config_from_json(layout.config, "config.json")), 3);
  save_checkpoint(saved, dir / "a", {.family = "gpt_oss"});
  const auto files = SafetensorsSet::open(dir / "a");
  const TensorEntry& entry = files.at("model.layers.1.mlp.experts.gate_up_proj");
  auto stored = torch::empty({4, 16, 24});
  to_float32(entry, stored.data_ptr<float>());
  const auto w_in = saved.model->named_parameters()["layers.1.ffn.experts.w_in"];  // [4, 24, 16]: gate rows, then up rows
  for (int64_t j = 0; j < 12; ++j) {
    EXPECT_TRUE(torch::equal(stored.select(2, 2 * j), w_in.select(1, j))) << j;
    EXPECT_TRUE(torch::equal(stored.select(2, 2 * j + 1), w_in.select(1, 12 + j))) << j;
  }
}

}  // namespace
}  // namespace switchyard::published_layouts_test
