// Families whose published form is custom code: all names and shapes as written down by hand, whole models against loops over the stored
// tensors (custom_code_published.h), ways to a folder and back, other names of the same tensors.
#include "expect_error.h"
#include "io/safetensors_writer.h"
#include "models/custom_code_published.h"
#include "models/stored_tensors.h"
#include "test_files.h"

namespace switchyard::custom_code_families_test {  // its own: tests of a folder compile as one unit
namespace {

using namespace custom_code;
using testing::TempDir;

class CustomCode : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    saved_ = random_checkpoint(read(GetParam(), published().at(GetParam()).config));
    save_checkpoint(saved_, dir_ / "a", {.family = GetParam()});
  }
  TempDir dir_;
  Checkpoint saved_;
};

TEST_P(CustomCode, NamesAndShapesAreThosePublished) {
  Shapes found;
  const auto files = SafetensorsSet::open(dir_ / "a");
  for (const TensorEntry* entry : files.entries()) found[entry->name] = entry->shape;
  EXPECT_EQ(found, published().at(GetParam()).tensors);
}

TEST_P(CustomCode, TheModelComputesWhatLoopsOverItsStoredTensorsDo) {
  const auto want = published().at(GetParam()).logits(StoredWeights(dir_ / "a"));
  const auto got = logits_of(*load_checkpoint(dir_ / "a").model);
  double most = 0, error = 0;
  for (int64_t t = 0; t < kTokens; ++t)
    for (int64_t v = 0; v < 40; ++v) {
      const double expected = want[static_cast<size_t>(t)][static_cast<size_t>(v)];
      most = std::max(most, std::abs(expected));
      error = std::max(error, std::abs(expected - got[t][v].item<double>()));
    }
  EXPECT_GT(most, 0.1);
  EXPECT_LT(error, 2e-5 * most);
}

TEST_P(CustomCode, LoadedAndSavedAgainItIsTheSameFilesAndTheSameLogits) {
  const json bookkeeping{{"auto_map", {{"AutoConfig", "configuration.Config"}}}, {"transformers_version", "4.31.0"}};
  change_json(dir_ / "a/config.json", bookkeeping);
  const auto loaded = load_checkpoint(dir_ / "a");
  EXPECT_EQ(loaded.family, GetParam());
  EXPECT_TRUE(torch::equal(logits_of(*loaded.model), logits_of(*saved_.model)));
  save_checkpoint(loaded, dir_ / "b");
  const auto again = json::parse(read_text_file(dir_ / "b/config.json"));
  for (const auto& [key, value] : bookkeeping.items()) EXPECT_EQ(again[key], value);
  save_checkpoint(load_checkpoint(dir_ / "b"), dir_ / "c");
  EXPECT_EQ(read_text_file(dir_ / "a/model.safetensors"), read_text_file(dir_ / "b/model.safetensors"));
  for (const char* file : {"config.json", "model.safetensors"}) EXPECT_EQ(read_text_file(dir_ / "b" / file), read_text_file(dir_ / "c" / file)) << file;
}

TEST_P(CustomCode, GenerationTokenByTokenGivesTheLogitsOfTheWholeText) {
  if (GetParam() == "openmoe") change_json(dir_ / "a/config.json", {{"router_capacity_factor_eval", 8.0}});  // room depends on how many come at once
  auto model = load_checkpoint(dir_ / "a").model;
  const auto whole = logits_of(*model);
  const c10::NoGradGuard no_grad;
  KvCache cache(model->spec(), 1, kTokens);
  for (int64_t t = 0; t < kTokens; ++t) {
    const auto step = model->logits(
        model->forward({.input_ids = torch::tensor({{text()[static_cast<size_t>(t)]}}, torch::kInt64), .positions = {}, .segments = {}}, {.cache = &cache})
            .hidden);
    EXPECT_LT((step[0][0] - whole[t]).abs().max().item<double>(), 1e-4 * whole.abs().max().item<double>()) << t;
  }
}

TEST_P(CustomCode, APublishedConfigIsStatedByItsOwnFamily) {
  EXPECT_EQ(cannot_state(find_family(GetParam()), read(GetParam(), published().at(GetParam()).config)), std::nullopt);
}

INSTANTIATE_TEST_SUITE_P(All, CustomCode, ::testing::Values("openmoe", "llama_moe", "skywork_moe", "yuan", "grok-1"), [](const auto& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

// ---- other names of the same tensors ----

// The folder with every tensor renamed by the first rule that applies: {text, what stands there instead}.
void rename_tensors(const fs::path& from, const fs::path& to, const std::vector<std::pair<std::string, std::string>>& rules) {
  fs::create_directories(to);
  const auto files = SafetensorsSet::open(from);
  std::vector<TensorSource> tensors;
  for (const TensorEntry* entry : files.entries()) {
    std::string name = entry->name;
    for (const auto& [text, instead] : rules)
      if (const size_t at = name.find(text); at != std::string::npos) name.replace(at, text.size(), instead);
    tensors.push_back(as_stored(name, as_tensor(*entry)));
  }
  write_safetensors(to / "model.safetensors", tensors);
  write_file_atomic(to / "config.json", read_text_file(from / "config.json"));
}

TEST(CustomCodeNames, PortsOfGrokAreReadUnderEachOfTheirNames) {
  const TempDir dir;
  const auto saved = random_checkpoint(read("grok-1", grok_config()));
  save_checkpoint(saved, dir / "a", {.family = "grok-1"});
  const std::vector<std::pair<std::string, std::string>> outer = {{"transformer.in_out_embed", "model.embed_tokens"},
                                                                  {"transformer.decoder_layer.", "model.layers."}},
                                                         inner = {{"query.", "q_proj."},
                                                                  {"key.", "k_proj."},
                                                                  {"value.", "v_proj."},
                                                                  {"attn.linear.", "attn.o_proj."}};
  auto b = outer, c = outer;
  for (const auto& rule : {std::pair{"rms_norm_1.weight", "post_attn_norm.scale"},
                           {"rms_norm_2.weight", "pre_moe_norm.scale"},
                           {"rms_norm_3.weight", "post_moe_norm.scale"},
                           {"transformer.rms_norm.weight", "model.norm.scale"},
                           {"rms_norm.weight", "pre_attn_norm.scale"},
                           {"multi_head_attention.", "attn."},
                           {"router.", "moe_block.gate."},
                           {".moe.", ".moe_block.experts."}})
    b.emplace_back(rule);
  for (const auto& rule : {std::pair{"rms_norm_1.", "post_attn_norm."},
                           {"rms_norm_2.", "pre_moe_norm."},
                           {"rms_norm_3.", "post_moe_norm."},
                           {"transformer.rms_norm.", "model.norm."},
                           {"rms_norm.", "pre_attn_norm."},
                           {"multi_head_attention.", "self_attn."},
                           {"router.", "block_sparse_moe.gate."},
                           {".moe.", ".block_sparse_moe.experts."},
                           {"linear_v.", "w3."},
                           {"linear_1.", "w2."},
                           {"attn.linear.", "attn.o_proj."},
                           {".linear.", ".w1."}})
    c.emplace_back(rule);
  for (auto* rules : {&b, &c}) rules->insert(rules->end(), inner.begin(), inner.end());
  rename_tensors(dir / "a", dir / "b", b);
  rename_tensors(dir / "a", dir / "c", c);
  const auto want = logits_of(*saved.model);
  ASSERT_TRUE(SafetensorsSet::open(dir / "b").find("model.layers.0.moe_block.experts.3.linear_v.weight"));
  ASSERT_TRUE(SafetensorsSet::open(dir / "b").find("model.layers.0.attn.o_proj.weight"));
  ASSERT_TRUE(SafetensorsSet::open(dir / "c").find("model.layers.0.block_sparse_moe.experts.3.w1.weight"));
  for (const char* folder : {"b", "c"}) EXPECT_TRUE(torch::equal(logits_of(*load_checkpoint(dir / folder).model), want)) << folder;
}

TEST(CustomCodeNames, ExpertsOfSkyworkAreReadUnderEachOfTheirNames) {
  for (const bool two_layers : {false, true}) {
    const TempDir dir;
    const auto saved = random_checkpoint(read("skywork_moe", with(skywork_config(), {{"moe_2layer_gate", two_layers}})));
    save_checkpoint(saved, dir / "a", {.family = "skywork_moe"});
    rename_tensors(dir / "a", dir / "b", {{"mlp.", "block_sparse_moe."}, {"gate_proj", "w1"}, {"up_proj", "w3"}, {"down_proj", "w2"}});
    rename_tensors(dir / "a", dir / "c", {{"mlp.gate.", "mlp.moe.gate.wg."}, {"mlp.experts.", "mlp.moe.experts.experts."}});
    ASSERT_TRUE(SafetensorsSet::open(dir / "c").find(two_layers ? "model.layers.0.mlp.moe.gate.wg.2.weight" : "model.layers.0.mlp.moe.gate.wg.weight"));
    for (const char* folder : {"b", "c"}) EXPECT_TRUE(torch::equal(logits_of(*load_checkpoint(dir / folder).model), logits_of(*saved.model))) << folder;
  }
}

// The code of OpenMoE has the configuration class of Llama, that of Skywork-MoE the model_type of a dense model.
TEST(CustomCodeNames, ArchitecturesSayTheFamilyWhereModelTypeIsThatOfAnother) {
  const auto family = [](json config) { return family_of(config_from_json(config, "config.json"), "config.json").name; };
  EXPECT_EQ(family({{"model_type", "llama"}, {"architectures", {"OpenMoeForCausalLM"}}}), "openmoe");
  EXPECT_EQ(family({{"model_type", "skywork"}, {"architectures", {"SkyworkMoeForCausalLM"}}}), "skywork_moe");
  EXPECT_EQ(family({{"model_type", "llama"}, {"architectures", {"LlamaForCausalLM"}}}), "llama");
  EXPECT_EQ(family({{"model_type", "grok"}}), "grok-1");
  testing::expect_error(ErrorKind::unsupported, {"'skywork'", "skywork_moe"}, [&] {
    (void)family({{"model_type", "skywork"}, {"architectures", {"SkyworkForCausalLM"}}});
  });
  testing::expect_error(ErrorKind::config, {"config.json", "'model_type' is missing"}, [&] { (void)family({{"architectures", {"OpenMoeForCausalLM"}}}); });
  const TempDir dir;
  save_checkpoint(random_checkpoint(read("openmoe", openmoe_config())), dir / "a", {.family = "openmoe"});
  change_json(dir / "a/config.json", {{"model_type", "llama"}});
  EXPECT_EQ(load_checkpoint(dir / "a").family, "openmoe");
}

}  // namespace
}  // namespace switchyard::custom_code_families_test
