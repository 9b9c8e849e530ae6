// Every family that GGUF has a table for: a model goes to a file and comes back, logits and bytes; quantised, within the bounds
// of the format. The names inside are tests/io/gguf_tables_test.cpp's.
#include "base/config_tree.h"
#include "base/files.h"
#include "expect_error.h"
#include "io/gguf/gguf.h"
#include "models/convert.h"
#include "models/golden.h"
#include "switchyard/checkpoint.h"
#include "test_files.h"

#include <gtest/gtest.h>

namespace switchyard::testing {
namespace {
namespace gguf_families {

namespace fs = std::filesystem;
using json = nlohmann::ordered_json;

struct Case {
  std::string name;  // of the golden folder, or of the family when there is a config
  json config = {};
  bool exact = true;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

// Widths of 64 and 32, so that blocks of 32 fit the rows that matter.
json base(const char* type, int64_t layers, const json& more) {
  json out = {{"model_type", type},       {"vocab_size", 40},         {"hidden_size", 64}, {"num_hidden_layers", layers},
              {"num_attention_heads", 4}, {"num_key_value_heads", 2}, {"head_dim", 16},    {"max_position_embeddings", 64},
              {"intermediate_size", 32},  {"rms_norm_eps", 1e-5}};
  for (const auto& [key, value] : more.items()) out[key] = value;
  return out;
}

json deepseek_like(const char* type, const json& more) {
  json out = base(type, 3,
                  {{"moe_intermediate_size", 32},
                   {"n_routed_experts", 8},
                   {"n_shared_experts", 2},
                   {"num_experts_per_tok", 3},
                   {"first_k_dense_replace", 1},
                   {"num_key_value_heads", 4},
                   {"q_lora_rank", 32},
                   {"kv_lora_rank", 32},
                   {"qk_nope_head_dim", 8},
                   {"qk_rope_head_dim", 4},
                   {"v_head_dim", 16}});
  out.erase("head_dim");
  for (const auto& [key, value] : more.items()) out[key] = value;
  return out;
}

json yarn(const json& more) {
  json out = {
      {"type", "yarn"}, {"factor", 4.0}, {"beta_fast", 32.0}, {"beta_slow", 1.0}, {"original_max_position_embeddings", 16}};
  for (const auto& [key, value] : more.items()) out[key] = value;
  return out;
}

json longrope(const json& more) {
  json out = {{"type", "longrope"},
              {"original_max_position_embeddings", 8},
              {"short_factor", json::array()},
              {"long_factor", json::array()}};
  for (int i = 0; i < 8; ++i) out["short_factor"].push_back(1 + 0.125 * i), out["long_factor"].push_back(1.5 + 0.25 * i);
  for (const auto& [key, value] : more.items()) out[key] = value;
  return out;
}

std::vector<Case> cases() {
  const json experts = {{"num_local_experts", 4}, {"num_experts_per_tok", 2}};
  const auto with_experts = [&](json more) {
    more.update(experts);
    return more;
  };
  std::vector<Case> out;
  for (const char* golden :
       {"llama", "mixtral", "qwen2", "qwen2_moe", "olmoe", "deepseek_v2", "deepseek_v3", "granitemoe", "dbrx"})
    out.push_back({golden});
  out.push_back({"jamba", {}, false});  // -exp(A_log) is rounded
  out.push_back({"qwen3", base("qwen3", 2, {{"rope_scaling", yarn({})}})});
  out.push_back(
      {"qwen3_moe",
       base("qwen3_moe", 2,
            {{"num_experts", 4}, {"num_experts_per_tok", 2}, {"moe_intermediate_size", 32}, {"norm_topk_prob", true}})});
  out.push_back({"granitemoeshared", base("granitemoeshared", 2,
                                          with_experts({{"shared_intermediate_size", 96},
                                                        {"attention_multiplier", 0.2},
                                                        {"embedding_multiplier", 12.0},
                                                        {"logits_scaling", 6.0},
                                                        {"residual_multiplier", 0.22}}))});
  out.push_back({"gpt_oss", base("gpt_oss", 2,
                                 with_experts({{"sliding_window", 3},
                                               {"layer_types", {"sliding_attention", "full_attention"}},
                                               {"attention_bias", true},
                                               {"rope_scaling", yarn({{"truncate", false}})}}))});
  out.push_back({"phimoe", base("phimoe", 2,
                                with_experts({{"attention_bias", true},
                                              {"lm_head_bias", true},
                                              {"sliding_window", 5},
                                              {"rope_scaling", longrope({{"short_mscale", 1.25}, {"long_mscale", 1.25}})}}))});
  out.push_back({"arctic", base("arctic", 2, with_experts({}))});
  out.push_back({"glm4_moe", base("glm4_moe", 3,
                                  {{"moe_intermediate_size", 32},
                                   {"n_routed_experts", 4},
                                   {"n_shared_experts", 1},
                                   {"num_experts_per_tok", 2},
                                   {"first_k_dense_replace", 1},
                                   {"norm_topk_prob", true},
                                   {"routed_scaling_factor", 2.5},
                                   {"partial_rotary_factor", 0.5},
                                   {"attention_bias", true},
                                   {"use_qk_norm", true}})});
  json moe = base("deepseek", 2,
                  {{"moe_intermediate_size", 32},
                   {"n_routed_experts", 4},
                   {"n_shared_experts", 2},
                   {"num_experts_per_tok", 2},
                   {"first_k_dense_replace", 1},
                   {"norm_topk_prob", false}});
  out.push_back({"deepseek", moe});
  out.push_back(
      {"deepseek_v2", deepseek_like("deepseek_v2", {{"n_group", 4},
                                                    {"topk_group", 2},
                                                    {"topk_method", "group_limited_greedy"},
                                                    {"scoring_func", "softmax"},
                                                    {"routed_scaling_factor", 16.0},
                                                    {"norm_topk_prob", false},
                                                    {"rope_scaling", yarn({{"mscale", 0.707}, {"mscale_all_dim", 0.707}})}})});
  out.push_back(
      {"deepseek_v3", deepseek_like("deepseek_v3", {{"n_group", 4},
                                                    {"topk_group", 2},
                                                    {"topk_method", "noaux_tc"},
                                                    {"scoring_func", "sigmoid"},
                                                    {"routed_scaling_factor", 2.5},
                                                    {"norm_topk_prob", true},
                                                    {"rope_scaling", yarn({{"mscale", 1.0}, {"mscale_all_dim", 1.0}})}})});
  return out;
}

torch::Tensor logits_of(const fs::path& path) {
  const torch::NoGradGuard no_grad;
  auto model = load_checkpoint(path).model;
  model->eval();
  const auto ids = (torch::arange(24, torch::kInt64) * 7 % 40).view({2, 12});
  return model->logits(model->forward({ids, {}, {}}).hidden);
}

// A folder of the case: the recorded one, or a model made here of which no value is a plain one or zero.
fs::path folder_of(const Case& c, const fs::path& dir) {
  if (c.config.empty()) return golden_folder(c.name);
  Checkpoint saved;
  saved.model =
      std::make_shared<LanguageModel>(find_family(c.name).family->read_config(config_from_json(c.config, "config.json")), 3);
  {
    const torch::NoGradGuard no_grad;
    for (const auto& item : saved.model->named_parameters())
      item.value().add_(0.05 * torch::arange(item.value().numel()).sin().view(item.value().sizes()));
    for (const auto& item : saved.model->named_buffers())
      if (item.key().ends_with("balance.bias")) item.value().copy_(torch::arange(item.value().numel()) * 0.1);
  }
  save_checkpoint(saved, dir / "model", {.family = c.name});
  return dir / "model";
}

void convert(const fs::path& in, const fs::path& out, const ConvertOptions& options = {}) {
  plan_conversion(in, out, options).write({});
}

class GgufFamilies : public ::testing::TestWithParam<Case> {};

TEST_P(GgufFamilies, LogitsAndBytesComeBack) {
  const TempDir dir;
  const auto folder = folder_of(GetParam(), dir.path());
  convert(folder, dir / "a.gguf");
  const auto want = logits_of(folder), got = logits_of(dir / "a.gguf");
  if (GetParam().exact) EXPECT_TRUE(same_bits(got, want));
  else EXPECT_TRUE(close_to(got, want, 1e-5, 1e-5));
  EXPECT_EQ(load_checkpoint(dir / "a.gguf").family, load_checkpoint(folder).family);
  convert(dir / "a.gguf", dir / "b");
  EXPECT_TRUE(same_bits(logits_of(dir / "b"), got));
  convert(dir / "b", dir / "b.gguf");
  EXPECT_EQ(read_text_file(dir / "a.gguf"), read_text_file(dir / "b.gguf"));
}

// Q8_0: half a step of 1 / 127 of the largest value of a block, here of the matrix.
TEST_P(GgufFamilies, QuantisedWeightsStayWithinTheirBounds) {
  const TempDir dir;
  const auto folder = folder_of(GetParam(), dir.path());
  ConvertOptions options;
  options.quantize = io::GgmlType::q8_0;
  convert(folder, dir / "q8.gguf", options);
  const auto exact = load_checkpoint(folder), found = load_checkpoint(dir / "q8.gguf");
  const auto other = found.model->named_parameters();
  double most = 0;
  for (const auto& item : exact.model->named_parameters()) {
    const auto error = (item.value() - other[item.key()]).abs().max().item<double>(),
               largest = item.value().abs().max().item<double>();
    EXPECT_LE(error, largest * 0.51 / 127 + 1e-6) << item.key();
    most = std::max(most, error);
  }
  EXPECT_GT(most, 0);
  const auto want = logits_of(folder), got = logits_of(dir / "q8.gguf");
  EXPECT_LE((got - want).norm().item<double>(), 0.2 * want.norm().item<double>());
}

INSTANTIATE_TEST_SUITE_P(All, GgufFamilies, ::testing::ValuesIn(cases()), [](const auto& info) {
  std::string name = info.param.name + (info.param.config.empty() ? "_recorded" : "");
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

// What the metadata cannot say is refused before anything is written.
TEST(GgufRefusals, ModelsThatTheKeysCannotSay) {
  const auto refused = [](const char* family, std::initializer_list<std::string_view> words, const json& change) {
    const TempDir dir;
    for (const Case& c : cases()) {
      if (c.name != family || c.config.empty()) continue;
      Case other = c;
      for (const auto& [key, value] : change.items()) other.config[key] = value;
      const auto folder = folder_of(other, dir.path());
      expect_error(ErrorKind::unsupported, words, [&] { convert(folder, dir / "x.gguf"); });
      EXPECT_FALSE(fs::exists(dir / "x.gguf"));
      return;
    }
    FAIL() << family;
  };
  refused("qwen3_moe", {"renormalise"}, {{"norm_topk_prob", false}});
  refused("qwen3", {"rope_scaling", "llama3"},
          {{"rope_scaling",
            {{"rope_type", "llama3"},
             {"factor", 8.0},
             {"low_freq_factor", 1.0},
             {"high_freq_factor", 4.0},
             {"original_max_position_embeddings", 16}}}});
  refused("qwen3", {"rope_scaling.attention_factor"}, {{"rope_scaling", yarn({{"attention_factor", 1.5}})}});
  refused("gpt_oss", {"truncate"}, {{"rope_scaling", yarn({})}});
  refused("gpt_oss", {"mixer.kind"}, {{"layer_types", {"full_attention", "sliding_attention"}}});
  refused("phimoe", {"short_mscale", "one number for both"},
          {{"rope_scaling", longrope({{"short_mscale", 1.25}, {"long_mscale", 1.5}})}});
  refused("deepseek_v2", {"mscale"}, {{"rope_scaling", yarn({{"mscale", 1.0}, {"mscale_all_dim", 0.5}})}});
  refused("glm4_moe", {"moe.gate.balance"}, {{"n_group", 2}, {"topk_group", 1}, {"topk_method", "group_limited_greedy"}});
}

// Layers behind the last one, which published folders of deepseek_v3 and glm4_moe have, are left out with a note.
TEST(GgufExtraLayers, AreLeftOut) {
  const TempDir dir;
  for (const Case& c : cases()) {
    if ((c.name != "deepseek_v3" && c.name != "glm4_moe") || c.config.empty()) continue;
    const auto folder = folder_of(c, dir / c.name);
    convert(folder, dir / (c.name + ".gguf"));
    auto model = load_checkpoint(folder);
    const auto file = SafetensorsFile::open(folder / "model.safetensors");
    std::vector<TensorSource> sources;
    std::vector<torch::Tensor> kept;
    for (const TensorEntry& entry : file.entries())
      sources.push_back(as_stored(entry.name, kept.emplace_back(as_tensor(entry).clone())));
    sources.push_back(as_stored("model.layers.3.eh_proj.weight", torch::ones({64, 128})));
    fs::create_directory(dir / (c.name + "-more"));
    write_safetensors(dir / (c.name + "-more") / "model.safetensors", sources);
    fs::copy_file(folder / "config.json", dir / (c.name + "-more") / "config.json");
    const auto plan = plan_conversion(dir / (c.name + "-more"), dir / (c.name + "-more.gguf"), {});
    ASSERT_FALSE(plan.notes.empty());
    EXPECT_NE(plan.notes.front().find("1 tensors of layers behind the last one"), std::string::npos);
    plan.write({});
    EXPECT_EQ(read_text_file(dir / (c.name + ".gguf")), read_text_file(dir / (c.name + "-more.gguf")));
  }
}

}  // namespace gguf_families
}  // namespace
}  // namespace switchyard::testing
