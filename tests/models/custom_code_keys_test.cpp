// What the config.json of families of custom code may say, and what is refused; LLaMA-MoE and its dense parent.
#include "expect_error.h"
#include "models/convert.h"
#include "models/custom_code_published.h"
#include "models/slice_network.h"
#include "test_files.h"

namespace switchyard::custom_code_keys_test {  // its own: tests of a folder compile as one unit
namespace {

using namespace custom_code;
using testing::TempDir;

// ---- other values of the keys ----

// Reads, writes and reads again; a tiny model goes to a folder and back.
ModelSpec stated(const std::string& family, const json& change) {
  const auto config = with(published().at(family).config, change);
  const ModelSpec spec = read(family, config).resolved();
  EXPECT_EQ(cannot_state(find_family(family), spec), std::nullopt) << config.dump();
  const TempDir dir;
  const auto saved = random_checkpoint(spec);
  save_checkpoint(saved, dir / "a", {.family = family});
  EXPECT_TRUE(torch::equal(logits_of(*load_checkpoint(dir / "a").model), logits_of(*saved.model))) << config.dump();
  return spec;
}

TEST(CustomCodeKeys, OtherValuesSurviveTheWayThroughTheSpecification) {
  EXPECT_EQ(stated("openmoe", {{"hidden_act", "silu"}}).ffn.kind, "swiglu");
  EXPECT_EQ(stated("openmoe", {{"moe_layer_interval", 1}}).num_layers, 4);
  EXPECT_EQ(stated("openmoe", {{"num_hidden_layers", 5}, {"router_topk", 1}}).num_layers, 5 + 2);
  EXPECT_EQ(stated("llama_moe", {{"score_scale_factor", 4.0}, {"size_experts", nullptr}}).moe->routed_scale, 4);
  EXPECT_EQ(stated("llama_moe", {{"gate_network", "linear"}, {"gate_noise_epsilon", 0.5}}).moe->gate.options.find("score"), nullptr);
  EXPECT_EQ(stated("llama_moe", {{"gate_add_noise", false}}).moe->losses.size(), 1u);
  EXPECT_TRUE(stated("llama_moe", {{"gate_use_balance", false}, {"num_selects", 1}}).moe->losses.empty());
  EXPECT_EQ(stated("llama_moe", {{"multiply_gate_scores", false}}).moe->routed_scale, 1);
  EXPECT_EQ(stated("skywork_moe", {{"moe_use_logits_norm", false}, {"moe_use_mixtral_gating", true}, {"num_experts", 4}}).moe->gate.kind, "top_k");
  EXPECT_EQ(stated("skywork_moe", {{"moe_expert_interval", 2}, {"num_hidden_layers", 4}, {"moe_gate_norm_std", 1.7}}).moe->every, 2);
  EXPECT_FALSE(stated("yuan", {{"moe_config", nullptr}}).moe.has_value());
  EXPECT_EQ(stated("yuan", {{"attention_projection_size", nullptr}}).rope.dims, 0);
  EXPECT_EQ(stated("grok-1", {{"hidden_act", "gelu"}, {"tie_word_embeddings", false}}).moe->experts.kind, "geglu");
}

TEST(CustomCodeKeys, WhatIsNotSupportedIsRefusedByName) {
  const auto refused = [](const std::string& family, ErrorKind kind, std::initializer_list<std::string_view> words, const json& change) {
    testing::expect_error(kind, words, [&] { (void)read(family, with(published().at(family).config, change)).resolved(); });
  };
  constexpr auto no = ErrorKind::unsupported, wrong = ErrorKind::config;
  refused("openmoe", no, {"hidden_act = 'quick_gelu'"}, {{"hidden_act", "quick_gelu"}});
  refused("openmoe", no, {"router_topk = 3"}, {{"router_topk", 3}});
  refused("openmoe", no, {"router_noisy_policy", "Jitter"}, {{"router_noisy_policy", "Jitter"}});
  refused("openmoe", no, {"router_drop_tks = false"}, {{"router_drop_tks", false}});
  refused("openmoe", no, {"mlp_gated = false"}, {{"mlp_gated", false}});
  refused("openmoe", no, {"rope_theta = 500"}, {{"rope_theta", 500.0}});
  refused("openmoe", wrong, {"moe_layer_interval = 3", "num_hidden_layers = 2"}, {{"moe_layer_interval", 3}});
  refused("openmoe", no, {"'router_bias' (= true)"}, {{"router_bias", true}});
  refused("llama_moe", no, {"gate_type", "SwitchBalancedGate"}, {{"gate_type", "SwitchBalancedGate"}});
  refused("llama_moe", no, {"calculator_type", "SwitchDropTokenCalculator"}, {{"calculator_type", "SwitchDropTokenCalculator"}});
  refused("llama_moe", no, {"gate_use_softmax = false"}, {{"gate_use_softmax", false}});
  refused("llama_moe", no, {"add_weight_norm = true"}, {{"add_weight_norm", true}});
  refused("llama_moe", no, {"gate_network = 'attention'"}, {{"gate_network", "attention"}});
  refused("llama_moe", no, {"size_experts[1] holds 2", "expected intermediate_size / num_experts = 3"}, {{"size_experts", {{3, 3, 3, 3}, {2, 4, 3, 3}}}});
  refused("llama_moe", wrong, {"size_experts has 1 entries", "num_hidden_layers = 2"}, {{"size_experts", {{3, 3, 3, 3}}}});
  refused("llama_moe", wrong, {"size_experts[0] has 2 sizes", "num_experts = 4"}, {{"size_experts", {{6, 6}, {6, 6}}}});
  refused("llama_moe", wrong, {"size_experts", "a list of lists"}, {{"size_experts", 3}});
  refused("llama_moe", wrong, {"score_scale_factor has 3 entries", "num_hidden_layers = 2"}, {{"score_scale_factor", {4.0, 4.0, 4.0}}});
  refused("llama_moe", wrong, {"num_selects = 5", "num_experts = 4"}, {{"num_selects", 5}});
  refused("llama_moe", no, {"rope_theta = 500"}, {{"rope_theta", 500.0}});
  refused("skywork_moe", no, {"moe_feature_no_mul_topk = false"}, {{"moe_feature_no_mul_topk", false}});
  refused("skywork_moe", no, {"num_experts has 2 entries"}, {{"num_experts", {4, 4}}});
  refused("skywork_moe", wrong, {"num_experts = 2.5"}, {{"num_experts", 2.5}});
  refused("skywork_moe", wrong, {"moe_gate_norm_std = 0"}, {{"moe_gate_norm_std", 0.0}});
  refused("skywork_moe", no, {"rope_scaling.type", "ntk"}, {{"rope_scaling", {{"type", "ntk"}, {"factor", 2.0}}}});
  refused("yuan", no, {"use_shareqk = true"}, {{"use_shareqk", true}});
  refused("yuan", no, {"causal_mask = false"}, {{"causal_mask", false}});
  refused("yuan", no, {"rms_norm_eps = 1e-05", "1e-06"}, {{"rms_norm_eps", 1e-5}});
  refused("yuan", no, {"num_key_value_heads = 1"}, {{"num_key_value_heads", 1}});
  refused("yuan", wrong, {"num_attention_heads = 3", "attention_projection_size = 25"}, {{"attention_projection_size", 25}});
  refused("yuan", no, {"attention_projection_size = 6", "hidden_size = 12"}, {{"attention_projection_size", 6}});
  const auto moe = [](const json& change) { return json{{"moe_config", with(yuan_config()["moe_config"], change)}}; };
  refused("yuan", no, {"router_type", "dense"}, moe({{"router_type", "dense"}}));
  refused("yuan", no, {"gated_linear_unit = false"}, moe({{"gated_linear_unit", false}}));
  refused("yuan", no, {"moe_config.moe_bias"}, moe({{"moe_bias", 1}}));
  refused("yuan", wrong, {"moe_config.moe_top_k = 5", "moe_num_experts = 4"}, moe({{"moe_top_k", 5}}));
  refused("grok-1", no, {"'residual_moe' (= true)"}, {{"residual_moe", true}});
  refused("grok-1", wrong, {"'embedding_multiplier_scale' is missing"}, {{"embedding_multiplier_scale", nullptr}});
  refused("grok-1", no, {"hidden_act = 'quick_gelu'"}, {{"hidden_act", "quick_gelu"}});
  refused("grok-1", wrong, {"num_experts_per_tok = 5", "num_experts = 4"}, {{"num_experts_per_tok", 5}});
}

TEST(CustomCodeKeys, AModelThatAFamilyCannotSayIsRefusedByName) {
  const auto reason = [](const std::string& family, const std::function<void(ModelSpec&)>& change) {
    ModelSpec s = read(family, published().at(family).config);
    change(s);
    return cannot_state(find_family(family), s).value_or("");
  };
  EXPECT_NE(reason("openmoe", [](ModelSpec& s) { s.mixer = "attention"; }).find("mixer.scale = 0"), std::string::npos);
  EXPECT_NE(reason("openmoe", [](ModelSpec& s) { s.moe->capacity.rounding = "ceil"; }).find("rounding"), std::string::npos);
  EXPECT_NE(reason("llama_moe", [](ModelSpec& s) { s.moe->losses[0] = {"importance", {{"weight", 0.01}}}; }).find("losses.0"), std::string::npos);
  EXPECT_NE(reason("skywork_moe", [](ModelSpec& s) { s.moe->num_shared_experts = 1; }).find("num_shared_experts = 1"), std::string::npos);
  EXPECT_NE(reason("yuan", [](ModelSpec& s) { s.moe->gate = {"top_k", {{"k", 2}}}; }).find("moe.gate"), std::string::npos);
  EXPECT_NE(reason("grok-1", [](ModelSpec& s) { s.sandwich_norm = false; }).find("sandwich_norm"), std::string::npos);
}

// ---- LLaMA-MoE and its dense parent ----

ConvertOptions to_llama() {
  ConvertOptions options;
  options.family = "llama";
  return options;
}

ModelSpec parent_spec() {
  return {.vocab_size = 40,
          .d_model = 16,
          .num_layers = 2,
          .num_heads = 4,
          .num_kv_heads = 2,
          .d_ff = 12,
          .max_positions = 64,
          .norm_eps = 1e-5,
          .init_std = 0.3,
          .moe = {}};
}

TEST(DenseParent, SlicesThatWereNotTrainedGiveTheParentBack) {
  const auto dense = random_checkpoint(parent_spec());
  const RandomStream random(5);
  const std::vector<NeuronSets> in_order(2, {{0, 1, 2}, {3, 4, 5}, {6, 7, 8}, {9, 10, 11}}),
      mixed = {random_sets(12, 4, random.at("a")), random_sets(12, 4, random.at("b"))};
  ASSERT_NE(mixed[0], in_order[0]);
  for (const auto* sets : {&in_order, &mixed}) {
    const TempDir dir;
    Checkpoint sliced;
    sliced.model = slice_networks(*dense.model, {.num_experts = 4, .top_k = 2}, *sets);
    save_checkpoint(sliced, dir / "sliced");  // what is written by itself
    EXPECT_EQ(load_checkpoint(dir / "sliced").family, "llama_moe");
    const auto plan = plan_conversion(dir / "sliced", dir / "dense", to_llama());
    EXPECT_NE(
        std::find_if(plan.notes.begin(), plan.notes.end(), [](const std::string& note) { return note.find("computes something else") != std::string::npos; }),
        plan.notes.end());
    EXPECT_EQ(plan.tensors.size(), 3u + 2 * 9);
    plan.write({});
    const auto back = load_checkpoint(dir / "dense");
    EXPECT_EQ(back.family, "llama");
    EXPECT_LT((logits_of(*back.model) - logits_of(*dense.model)).abs().max().item<double>(), 1e-4);
    EXPECT_GT((logits_of(*sliced.model) - logits_of(*dense.model)).abs().max().item<double>(), 1e-2) << "the model of experts is another one";
    if (sets != &in_order) continue;
    const auto parameters = back.model->named_parameters();
    for (const auto& item : dense.model->named_parameters()) {
      EXPECT_TRUE(torch::equal(item.value(), parameters[item.key()])) << item.key();
    }
  }
}

TEST(DenseParent, OnlySlicesGoBack) {
  const TempDir dir;
  save_checkpoint(random_checkpoint(read("skywork_moe", skywork_config())), dir / "a", {.family = "skywork_moe"});
  testing::expect_error(ErrorKind::unsupported, {"cannot convert to 'llama'", "moe"}, [&] { (void)plan_conversion(dir / "a", dir / "b", to_llama()); });
  ModelSpec s = read("llama_moe", llama_moe_config());
  s.moe->num_shared_experts = 1;
  testing::expect_error(ErrorKind::unsupported, {"join: layer 0"}, [&] { (void)joined_spec(s); });
}

}  // namespace
}  // namespace switchyard::custom_code_keys_test
