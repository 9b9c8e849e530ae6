// config.json in both directions: what is stated, what is refused and by which name.
#include "base/config_tree.h"
#include "base/files.h"
#include "expect_error.h"
#include "models/canonical_spec.h"
#include "models/family.h"
#include "models/golden.h"
#include "models/small_specs.h"
#include "switchyard/checkpoint.h"
#include "test_files.h"

#include <functional>

namespace switchyard::testing {
namespace {

using json = nlohmann::ordered_json;

ModelSpec read(const std::string& family, const json& config) { return find_family(family).family->read_config(config_from_json(config, "config.json")); }

json golden_config(const std::string& name) { return json::parse(read_text_file(golden_folder(name) / "config.json")); }

void expect_cannot_state(const std::string& family, std::initializer_list<std::string_view> words, const ModelSpec& spec) {
  const auto reason = cannot_state(find_family(family), spec);
  ASSERT_TRUE(reason.has_value());
  for (const auto word : words) EXPECT_NE(reason->find(word), std::string::npos) << "'" << word << "' is not in: " << *reason;
}

TEST(Families, AllOfThemStateWhatTheyWrote) {
  EXPECT_EQ(cannot_state(find_family("mixtral"), mixtral_like_spec()), std::nullopt);
  EXPECT_EQ(cannot_state(find_family("llama"), llama_like_spec()), std::nullopt);
  for (const auto& spec : {small_spec(), mixtral_like_spec(), llama_like_spec()}) EXPECT_EQ(cannot_state(find_family("switchyard"), spec), std::nullopt);
}

// Whoever asks for a family gets a folder that computes the same; training on from it would be another training, so that nobody gets it unasked.
TEST(Families, RulesOfTrainingAreNoPartOfWhatIsComputed) {
  ModelSpec s = read("deepseek_v3", golden_config("deepseek_v3"));
  s.moe->losses.push_back({"router_z", ConfigNode{{"weight", 0.1}}});
  *s.moe->gate.options.find("balance") = ConfigNode{{"kind", "bias"}, {"gamma", 0.001}};
  const auto& family = find_family("deepseek_v3");
  EXPECT_NE(cannot_state(family, s), std::nullopt);
  EXPECT_EQ(cannot_state(family, s, /*training_rules=*/false), std::nullopt);
  s.moe->routed_scale = 7;
  EXPECT_EQ(cannot_state(family, s, /*training_rules=*/false), std::nullopt);  // a key of the file
  s.moe->join = "coef_2";
  EXPECT_NE(cannot_state(family, s, /*training_rules=*/false), std::nullopt);
}

TEST(Families, EqualGatesInOtherWordsAreStatedToo) {
  ModelSpec s = mixtral_like_spec();
  s.moe->gate = {"chain", ConfigNode{{"select", ConfigNode{{"kind", "top_k"}, {"k", 3}}}, {"weigh", "softmax_chosen"}}};
  EXPECT_EQ(cannot_state(find_family("mixtral"), s), std::nullopt);
  EXPECT_EQ(find_family("mixtral").family->write_config(s)["num_experts_per_tok"], 3);
}

TEST(Families, MixtralRefusesByNameWhatItCannotSay) {
  const auto with = [](const std::function<void(ModelSpec&)>& change) {
    ModelSpec s = mixtral_like_spec();
    change(s);
    return s;
  };
  expect_cannot_state("mixtral", {"routed_scale = 2.5"}, with([](ModelSpec& s) { s.moe->routed_scale = 2.5; }));
  expect_cannot_state("mixtral", {"num_shared_experts = 1"}, with([](ModelSpec& s) { s.moe->num_shared_experts = 1; }));
  expect_cannot_state("mixtral", {"experts", "relu"}, with([](ModelSpec& s) { s.moe->experts = "relu"; }));
  expect_cannot_state("mixtral", {"capacity.factor = 1.25"}, with([](ModelSpec& s) { s.moe->capacity.factor = 1.25; }));
  expect_cannot_state("mixtral", {"gate.renormalise = false"}, with([](ModelSpec& s) { s.moe->gate = {"top_k", {{"renormalise", false}}}; }));
  expect_cannot_state("mixtral", {"moe.gate", "dense"}, with([](ModelSpec& s) { s.moe->gate = "dense"; }));
  const auto chain = [](ConfigNode::Table more) {
    more.emplace_back("select", ConfigNode{{"kind", "top_k"}, {"k", 2}});
    return [more](ModelSpec& s) { s.moe->gate = {"chain", ConfigNode(more)}; };
  };
  expect_cannot_state("mixtral", {"moe.gate", "chain"}, with(chain({{"balance", "bias"}})));
  expect_cannot_state("mixtral", {"moe.gate", "chain"}, with(chain({{"keep", "random_second"}})));
  expect_cannot_state("mixtral", {"moe.gate", "chain"}, with([&](ModelSpec& s) {
                        chain({{"null_experts", 2}})(s);
                        s.moe->losses = {};
                      }));
  expect_cannot_state("mixtral", {"causal = false"}, with([](ModelSpec& s) { s.causal = false; }));
  expect_cannot_state("mixtral", {"experts.dropout = 0.1"}, with([](ModelSpec& s) { s.moe->experts = {"swiglu", {{"dropout", 0.1}}}; }));
  expect_cannot_state("mixtral", {"dropout = 0.1"}, with([](ModelSpec& s) { s.dropout = 0.1; }));
  expect_cannot_state("mixtral", {"losses.1"}, with([](ModelSpec& s) { s.moe->losses.push_back({"router_z", {{"weight", 1e-3}}}); }));
  expect_cannot_state("mixtral", {"losses.0.layer_reduce", "sum"}, with([](ModelSpec& s) {
                        s.moe->losses = {{"load_balance", ConfigNode{{"weight", 0.01}, {"divide_by_k", false}}}};
                      }));
  expect_cannot_state("mixtral", {"every = 2"}, with([](ModelSpec& s) { s.moe->every = 2, s.d_ff = s.moe->d_expert; }));
  expect_cannot_state("mixtral", {"moe.num_experts"}, llama_like_spec());
}

TEST(Families, AModelThatMakesNoSenseInAFamilyIsAReasonNotAnError) {
  ModelSpec s = mixtral_like_spec();
  s.moe->num_experts = 1;
  s.moe->gate = "dense";
  expect_cannot_state("mixtral", {"num_experts_per_tok = 2 exceeds num_local_experts = 1"}, s);
}

TEST(Families, LlamaRefusesByNameWhatItCannotSay) {
  expect_cannot_state("llama", {"moe.num_experts = 4"}, small_spec());
  ModelSpec s = llama_like_spec();
  s.ffn = "relu";
  expect_cannot_state("llama", {"ffn", "relu"}, s);
}

TEST(Families, WhatDoesNotActIsNoObstacle) {
  ModelSpec s = mixtral_like_spec();
  s.d_ff = 77;  // no dense layer uses it
  s.ffn = "relu";
  s.moe->capacity.min_capacity = 9;  // without a factor nothing is dropped
  s.moe->losses.push_back({"router_z", {{"weight", 0.0}}});
  EXPECT_EQ(cannot_state(find_family("mixtral"), s), std::nullopt);
}

TEST(Families, OldAndNewSpellingsMeanTheSame) {
  for (const char* name : {"mixtral", "llama"}) {
    json config = golden_config(name);
    const auto expected = to_json(read(name, config));
    config["rope_theta"] = config["rope_parameters"]["rope_theta"];
    config.erase("rope_parameters");
    config["torch_dtype"] = config["dtype"];
    config.erase("dtype");
    config["rope_scaling"] = nullptr;
    config["head_dim"] = nullptr;
    EXPECT_EQ(to_json(read(name, config).resolved()), to_json(read(name, golden_config(name)).resolved()));
    EXPECT_EQ(to_json(read(name, config))["rope_theta"], expected["rope_theta"]);
  }
}

TEST(Families, KeysThatChangeTheMathematicsAreRefusedByName) {
  const auto expect_unsupported = [](const std::string& family, std::initializer_list<std::string_view> words, const std::function<void(json&)>& change) {
    json config = golden_config(family);
    change(config);
    expect_error(ErrorKind::unsupported, words, [&] { (void)read(family, config); });
  };
  expect_unsupported("mixtral", {"hidden_act", "quick_gelu", "relu"}, [](json& c) { c["hidden_act"] = "quick_gelu"; });
  expect_unsupported("jamba", {"hidden_act", "state-space"}, [](json& c) { c["hidden_act"] = "gelu"; });
  expect_unsupported("mixtral", {"attention_bias = true"}, [](json& c) { c["attention_bias"] = true; });
  expect_unsupported("qwen2", {"layer_types[1]", "chunked_attention"}, [](json& c) { c["layer_types"][1] = "chunked_attention"; });
  expect_unsupported("deepseek_v2", {"topk_method = 'best'"}, [](json& c) { c["topk_method"] = "best"; });
  expect_unsupported("deepseek_v2", {"norm_topk_prob = true"}, [](json& c) { c["norm_topk_prob"] = true; });
  expect_unsupported("deepseek_v3", {"scoring_func = 'tanh'"}, [](json& c) { c["scoring_func"] = "tanh"; });
  expect_unsupported("dbrx", {"ffn_config.moe_normalize_expert_weights = 2"}, [](json& c) { c["ffn_config"]["moe_normalize_expert_weights"] = 2.0; });
  expect_unsupported("dbrx", {"attn_config.head_caps"}, [](json& c) { c["attn_config"]["head_caps"] = 2.0; });
  expect_unsupported("llama", {"rope_scaling.type", "mrope"}, [](json& c) { c["rope_scaling"] = {{"type", "mrope"}, {"factor", 2.0}}; });
  expect_unsupported("llama", {"rope_parameters.sections"}, [](json& c) { c["rope_parameters"]["sections"] = {1, 2}; });
  expect_unsupported("llama", {"quantization_config"}, [](json& c) { c["quantization_config"] = {{"bits", 4}}; });
  expect_unsupported("llama", {"config.json", "'logit_scale' (= 0.5)"}, [](json& c) { c["logit_scale"] = 0.5; });
}

// What a config.json says goes to the specification and comes back.
TEST(Families, EveryGoldenConfigIsStatedByItsOwnFamily) {
  for (const char* name : {"mixtral", "llama", "qwen2", "qwen2_moe", "olmoe", "dbrx", "deepseek_v2", "deepseek_v3", "granitemoe", "jamba", "jetmoe", "switch_transformers", "nllb-moe"}) {
    const auto spec = read(name, golden_config(name));
    EXPECT_EQ(cannot_state(find_family(name), spec), std::nullopt) << name;
    EXPECT_NO_THROW((void)spec.resolved()) << name;
  }
}

TEST(Families, OptionsOfTheKeysSurviveTheWayThroughTheSpecification) {
  const auto expect_stated = [](const std::string& family, const std::function<void(json&)>& change, const std::function<bool(const ModelSpec&)>& means) {
    json config = golden_config(family);
    change(config);
    const ModelSpec spec = read(family, config).resolved();
    EXPECT_TRUE(means(spec)) << family << ": " << to_json(spec).dump();
    EXPECT_EQ(cannot_state(find_family(family), spec), std::nullopt) << family;
  };
  const auto window = [](const ModelSpec& s, int64_t layer) {
    int64_t out = 0;
    const LayerPlan plan = s.layer(layer);
    if (const auto* node = plan.mixer->options.find("window")) read_any(*node, "window", out);
    return out;
  };
  expect_stated("mixtral", [](json& c) { c["sliding_window"] = 5; }, [&](const ModelSpec& s) { return window(s, 0) == 5 && window(s, 1) == 5; });
  expect_stated("llama", [](json& c) { c["attention_bias"] = true; }, [](const ModelSpec& s) { return s.mixer.options.find("o_bias") != nullptr; });
  expect_stated("llama", [](json& c) { c["rope_parameters"] = {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 16}, {"rope_theta", 5e5}, {"beta_fast", 16.0}}; },
                [](const ModelSpec& s) { return s.rope.scaling == "yarn" && s.rope.beta_fast == 16 && s.rope_theta == 5e5; });
  expect_stated("llama", [](json& c) {
    c.erase("rope_parameters");
    c["rope_theta"] = 3e4;
    c["rope_scaling"] = {{"rope_type", "llama3"}, {"factor", 8.0}, {"low_freq_factor", 1.0}, {"high_freq_factor", 4.0}, {"original_max_position_embeddings", 32}};
  }, [](const ModelSpec& s) { return s.rope.scaling == "llama3" && s.rope.original_positions == 32 && s.rope_theta == 3e4; });
  expect_stated("llama", [](json& c) { c["rope_parameters"]["partial_rotary_factor"] = 0.5; }, [](const ModelSpec& s) { return s.rope.dims == s.head_dim / 2; });
  expect_stated("llama", [](json& c) { c["rope_scaling"] = {{"type", "su"}, {"short_factor", {1.0, 1.0, 1.5, 2.0}}, {"long_factor", {2.0, 2.0, 3.0, 4.0}}}, c["original_max_position_embeddings"] = 16; },
                [](const ModelSpec& s) { return s.rope.scaling == "longrope" && s.rope.original_positions == 16 && s.rope.long_factor[3] == 4; });
  expect_stated("qwen2", [](json& c) { c["use_sliding_window"] = true, c["sliding_window"] = 4, c["max_window_layers"] = 1; c.erase("layer_types"); },
                [&](const ModelSpec& s) { return window(s, 0) == 0 && window(s, 1) == 4 && window(s, 2) == 4; });
  for (const auto& [act, kind] : {std::pair{"gelu", "geglu"}, {"gelu_pytorch_tanh", "geglu_tanh"}, {"relu", "reglu"}, {"sigmoid", "glu"}, {"linear", "bilinear"}})
    for (const char* family : {"mixtral", "qwen2_moe", "deepseek_v3", "granitemoe"})
      expect_stated(family, [&](json& c) { c["hidden_act"] = act; }, [&](const ModelSpec& s) { return s.moe->experts.kind == kind; });
  expect_stated("olmoe", [](json& c) { c["clip_qkv"] = 2.0, c["norm_topk_prob"] = true; }, [](const ModelSpec& s) { return s.mixer.options.find("clip_qkv") != nullptr; });
  expect_stated("deepseek_v2", [](json& c) { c["topk_method"] = "group_limited_greedy", c["n_group"] = 4, c["topk_group"] = 2, c["routed_scaling_factor"] = 16.0; },
                [](const ModelSpec& s) { return s.moe->routed_scale == 16 && s.moe->gate.kind == "chain"; });
  expect_stated("deepseek_v2", [](json& c) { c["q_lora_rank"] = nullptr; }, [](const ModelSpec& s) { return to_json(s)["mixer"]["q_rank"] == 0; });
  expect_stated("deepseek_v3", [](json& c) { c["rope_parameters"] = {{"rope_type", "yarn"}, {"factor", 40.0}, {"mscale", 1.0}, {"mscale_all_dim", 1.0}, {"original_max_position_embeddings", 16}}; },
                [](const ModelSpec& s) { return s.mixer.options.find("scale") != nullptr; });
  expect_stated("jamba", [](json& c) { c["attn_layer_period"] = 2, c["attn_layer_offset"] = 1, c["expert_layer_offset"] = 0, c["mamba_dt_rank"] = "auto"; },
                [](const ModelSpec& s) { return s.layer(3).mixer->kind == "attention" && s.layer(2).moe.has_value(); });
}

// Folders of transformers 5 compute the bias per distance in the first layer alone; the published weights come from before.
TEST(Families, SwitchKnowsInWhichLayersDistancesAct) {
  json config = golden_config("switch_transformers");
  EXPECT_EQ(read("switch_transformers", config).positions, "relative_first");
  config["transformers_version"] = "4.25.0.dev0";
  const ModelSpec everywhere = read("switch_transformers", config);
  EXPECT_EQ(everywhere.positions, "relative");
  EXPECT_EQ(cannot_state(find_family("switch_transformers"), everywhere), std::nullopt);
  config["transformers_version"] = "5.12.1";
  config["relative_attention_in_first_layer_only"] = false;
  EXPECT_EQ(read("switch_transformers", config).positions, "relative");
}

TEST(Families, StacksOfTwoFamiliesRefuseWhatTheyDoNotKnow) {
  const auto refused = [](const std::string& family, ErrorKind kind, std::initializer_list<std::string_view> words, const std::function<void(json&)>& change) {
    json config = golden_config(family);
    change(config);
    expect_error(kind, words, [&] { (void)read(family, config); });
  };
  refused("switch_transformers", ErrorKind::unsupported, {"dense_act_fn = 'gated-tanh'"}, [](json& c) { c["dense_act_fn"] = "gated-tanh"; });
  refused("switch_transformers", ErrorKind::unsupported, {"is_gated_act"}, [](json& c) { c["is_gated_act"] = true; });
  refused("switch_transformers", ErrorKind::unsupported, {"dense_act_fn", "feed_forward_proj"}, [](json& c) { c["feed_forward_proj"] = "gelu"; });
  refused("switch_transformers", ErrorKind::unsupported, {"router_dtype"}, [](json& c) { c["router_dtype"] = "bfloat16"; });
  refused("switch_transformers", ErrorKind::config, {"num_sparse_encoder_layers = 9", "4 layers"}, [](json& c) { c["num_sparse_encoder_layers"] = 9; });
  refused("nllb-moe", ErrorKind::unsupported, {"router_ignore_padding_tokens"}, [](json& c) { c["router_ignore_padding_tokens"] = true; });
  refused("nllb-moe", ErrorKind::unsupported, {"second_expert_policy"}, [](json& c) { c["second_expert_policy"] = "random"; });
  refused("nllb-moe", ErrorKind::unsupported, {"encoder_ffn_dim = 24", "decoder_ffn_dim = 48"}, [](json& c) { c["decoder_ffn_dim"] = 48; });
  refused("nllb-moe", ErrorKind::config, {"encoder_attention_heads = 5", "d_model = 32"}, [](json& c) { c["encoder_attention_heads"] = c["decoder_attention_heads"] = 5; });
}

TEST(Families, OptionsOfTwoStacksSurviveTheWayThroughTheSpecification) {
  const auto stated = [](const std::string& family, const std::function<void(json&)>& change) {
    json config = golden_config(family);
    change(config);
    const ModelSpec spec = read(family, config).resolved();
    EXPECT_EQ(cannot_state(find_family(family), spec), std::nullopt) << family << ": " << config.dump();
    return spec;
  };
  EXPECT_FALSE(stated("switch_transformers", [](json& c) {
                 c["num_sparse_encoder_layers"] = c["num_sparse_decoder_layers"] = c["encoder_sparse_step"] = c["decoder_sparse_step"] = 0;
               }).moe.has_value());  // plain T5
  const auto all = stated("switch_transformers", [](json& c) {
    c["num_sparse_encoder_layers"] = c["num_sparse_decoder_layers"] = 4;
    c["encoder_sparse_step"] = c["decoder_sparse_step"] = 1;
    c["tie_word_embeddings"] = false;
  });
  EXPECT_TRUE(all.is_moe_layer(1) && all.is_moe_layer(3) && all.logit_scale == 1);
  EXPECT_EQ(stated("switch_transformers", [](json& c) { c["dense_act_fn"] = "gated-silu"; }).moe->experts.kind, "swiglu");
  EXPECT_EQ(stated("switch_transformers", [](json& c) {  // as T5 v1.1 says it
              c["feed_forward_proj"] = "gated-gelu", c["dense_act_fn"] = "gelu_new", c["is_gated_act"] = true;
            }).moe->experts.kind, "geglu_tanh");
  for (const char* family : {"switch_transformers", "nllb-moe"}) {
    const TempDir dir;
    Checkpoint saved;
    saved.model = std::make_shared<LanguageModel>(stated(family, [](json& c) { c["router_bias"] = true; }));
    int64_t biases = 0;
    for (const auto& item : saved.model->named_parameters()) {
      if (!item.key().ends_with("gate.score.bias")) continue;
      const torch::NoGradGuard no_grad;
      item.value().fill_(static_cast<double>(++biases));
    }
    EXPECT_EQ(biases, std::string(family) == "nllb-moe" ? 2 : 4) << family;  // every second of two blocks or four, in both stacks
    save_checkpoint(saved, dir / "m", {.family = family});
    const auto again = load_checkpoint(dir / "m");
    for (const auto& item : saved.model->named_parameters()) EXPECT_TRUE(torch::equal(item.value(), again.model->named_parameters()[item.key()])) << item.key();
  }
  EXPECT_EQ(stated("nllb-moe", [](json& c) { c["moe_eval_capacity_token_fraction"] = 0.3; }).moe->capacity.eval_factor, 0.3 * 6);
  EXPECT_EQ(stated("nllb-moe", [](json& c) { c["moe_eval_capacity_token_fraction"] = -1.0; }).moe->capacity.eval_rows, 64);
  EXPECT_FALSE(stated("nllb-moe", [](json& c) { c["normalize_router_prob_before_dropping"] = true, c["moe_token_dropout"] = 0.0; }).moe->capacity.renorm_after_drop);
  EXPECT_EQ(stated("nllb-moe", [](json& c) { c["batch_prioritized_routing"] = true, c["scale_embedding"] = false; }).moe->capacity.priority.kind, "score");
}

TEST(Families, WrongValuesAreRefusedByName) {
  const auto expect_wrong = [](std::initializer_list<std::string_view> words, const std::function<void(json&)>& change) {
    json config = golden_config("mixtral");
    change(config);
    expect_error(ErrorKind::config, words, [&] { (void)read("mixtral", config); });
  };
  expect_wrong({"num_experts_per_tok = 9", "num_local_experts = 8"}, [](json& c) { c["num_experts_per_tok"] = 9; });
  expect_wrong({"hidden_size = 0"}, [](json& c) { c["hidden_size"] = 0; });
  expect_wrong({"num_hidden_layers = -3"}, [](json& c) { c["num_hidden_layers"] = -3; });
  expect_wrong({"vocab_size", "missing"}, [](json& c) { c.erase("vocab_size"); });
  expect_wrong({"vocab_size", "string", "integer"}, [](json& c) { c["vocab_size"] = "128"; });
  expect_wrong({"num_key_value_heads = 3", "num_attention_heads = 4"}, [](json& c) { c["num_key_value_heads"] = 3; });
  expect_wrong({"rope_theta"}, [](json& c) { c["rope_theta"] = 5.0; });
}

TEST(Families, AnUnknownModelTypeListsTheKnownOnes) {
  expect_error(ErrorKind::unsupported, {"mixtrol", "mixtral"}, [] { (void)find_family("mixtrol"); });
  expect_error(ErrorKind::unsupported, {"'bert'", "llama", "mixtral", "switchyard"}, [] { (void)find_family("bert"); });
}

TEST(Families, OneExpertPerTokenCanBeRead) {
  json config = golden_config("mixtral");
  config["num_experts_per_tok"] = 1;
  config["router_jitter_noise"] = 0.1;
  const ModelSpec s = read("mixtral", config);
  EXPECT_NO_THROW((void)s.resolved());
  EXPECT_EQ(cannot_state(find_family("mixtral"), s), std::nullopt);
}

TEST(CanonicalSpec, TheFirstDifferenceIsNamedWithBothValues) {
  EXPECT_EQ(first_difference(json{{"a", {{"b", 1}}}}, json{{"a", {{"b", 2}}}}), "a.b = 1, not 2");
  EXPECT_EQ(first_difference(json{{"a", 1}, {"b", 2}}, json{{"a", 1}}), "b = 2");
  EXPECT_EQ(first_difference(json{{"a", 1}}, json{{"a", 1}, {"c", 3}}), "no c (it would be 3)");
  EXPECT_EQ(first_difference(json{{"a", 1}}, json{{"a", 1}}), "");
}

}  // namespace
}  // namespace switchyard::testing
