// Folders in and out: nothing is lost on the way, and damage is named.
#include "base/files.h"
#include "io/safetensors_set.h"
#include "expect_error.h"
#include "io/tokenizer/tokenizer.h"
#include "models/forward_dump.h"
#include "models/golden.h"
#include "models/small_specs.h"
#include "test_files.h"

#include <limits>

namespace switchyard::testing {
namespace {

namespace fs = std::filesystem;
using json = nlohmann::ordered_json;

json config_in(const fs::path& folder) { return json::parse(read_text_file(folder / "config.json")); }

void expect_same_weights(const LanguageModel& a, const LanguageModel& b) {
  const auto other = b.named_parameters();
  ASSERT_EQ(a.named_parameters().size(), other.size());
  for (const auto& item : a.named_parameters()) EXPECT_TRUE(same_bits(item.value(), other[item.key()])) << item.key();
}

// A golden folder that can be spoilt: its config, and all of its tensors.
class Spoilt {
 public:
  explicit Spoilt(const std::string& golden) {
    fs::copy(golden_folder(golden), folder(), fs::copy_options::recursive);
    const auto file = SafetensorsFile::open(folder() / "model.safetensors");
    for (const auto& entry : file.entries()) tensors[entry.name] = as_tensor(entry);
    config = config_in(folder());
  }

  void write() {
    std::vector<TensorSource> sources;
    for (const auto& [name, tensor] : tensors) sources.push_back(as_stored(name, tensor));
    write_safetensors(folder() / "model.safetensors", sources);
    write_file_atomic(folder() / "config.json", config.dump());
  }
  void expect_refused(ErrorKind kind, std::initializer_list<std::string_view> words) {
    write();
    expect_error(kind, words, [&] { (void)load_checkpoint(folder()); });
  }
  [[nodiscard]] fs::path folder() const { return dir_ / "model"; }

  std::map<std::string, torch::Tensor> tensors;
  json config;

 private:
  TempDir dir_;
};

TEST(Checkpoint, GoldenFoldersSurviveSavingBitForBit) {
  const TempDir dir;
  for (const char* name : {"mixtral", "mixtral-fused", "mixtral-sharded", "llama", "qwen2", "qwen2_moe", "olmoe", "dbrx", "deepseek_v2", "deepseek_v3", "granitemoe", "jamba", "jetmoe",
                           "switch_transformers", "nllb-moe"}) {
    const auto loaded = load_checkpoint(golden_folder(name));
    save_checkpoint(loaded, dir / name);
    EXPECT_EQ(config_in(dir / name)["model_type"], config_in(golden_folder(name))["model_type"]);
    const auto again = load_checkpoint(dir / name);
    expect_same_weights(*loaded.model, *again.model);
    EXPECT_EQ(to_json(again.model->spec()), to_json(loaded.model->spec()));
    save_checkpoint(again, dir / (std::string(name) + "-again"));
    for (const char* file : {"config.json", "model.safetensors"})
      EXPECT_EQ(read_text_file(dir / name / file), read_text_file(dir / (std::string(name) + "-again") / file)) << name << "/" << file;
    const auto original = config_in(golden_folder(name));
    for (const auto& item : original.items())  // what the family does not write stays
      EXPECT_TRUE(config_in(dir / name).contains(item.key())) << name << " lost " << item.key();
    // The tensors of the file, too: names, shapes and bytes of the published layout.
    if (std::string(name) == "mixtral-fused") continue;
    const auto before = SafetensorsSet::open(golden_folder(name)), after = SafetensorsSet::open(dir / name);
    ASSERT_EQ(before.entries().size(), after.entries().size());
    for (const TensorEntry* entry : before.entries()) {
      EXPECT_EQ(after.at(entry->name).shape, entry->shape) << entry->name;
      EXPECT_TRUE(std::ranges::equal(after.at(entry->name).bytes, entry->bytes)) << entry->name;
    }
  }
}

TEST(Checkpoint, AnyModelSurvivesAsSwitchyardInShards) {
  const TempDir dir;
  ModelSpec spec = small_spec();
  spec.moe->num_shared_experts = 2;
  spec.moe->experts = "geglu";
  spec.moe->routed_scale = 2.5;
  spec.tie_embeddings = true;
  spec.dropout = 0.1;
  const Checkpoint saved{.model = std::make_shared<LanguageModel>(spec, 3)};
  save_checkpoint(saved, dir / "m", {.max_shard_bytes = 2000});
  EXPECT_TRUE(fs::exists(dir / "m/model.safetensors.index.json"));
  EXPECT_EQ(config_in(dir / "m")["model_type"], "switchyard");
  const auto again = load_checkpoint(dir / "m");
  expect_same_weights(*saved.model, *again.model);
  EXPECT_EQ(to_json(again.model->spec()), to_json(saved.model->spec()));
  EXPECT_EQ(to_json(load_spec(dir / "m")), to_json(saved.model->spec()));
}

TEST(Checkpoint, AutoTakesTheFamilyThatCanStateTheModel) {
  const TempDir dir;
  const auto type_of = [&](const ModelSpec& spec) {
    save_checkpoint({.model = std::make_shared<LanguageModel>(spec, 3)}, dir / "m");
    return config_in(dir / "m")["model_type"];
  };
  EXPECT_EQ(type_of(mixtral_like_spec()), "mixtral");
  EXPECT_EQ(type_of(llama_like_spec()), "llama");
  EXPECT_EQ(type_of(small_spec()), "switchyard");
}

TEST(Checkpoint, AFamilyThatCannotStateTheModelIsRefusedAndNothingIsWritten) {
  const TempDir dir;
  ModelSpec spec = mixtral_like_spec();
  spec.moe->num_shared_experts = 1;
  const Checkpoint checkpoint{.model = std::make_shared<LanguageModel>(spec, 3)};
  expect_error(ErrorKind::unsupported, {"mixtral", "num_shared_experts = 1", "switchyard"},
               [&] { save_checkpoint(checkpoint, dir / "m", {.family = "mixtral"}); });
  EXPECT_FALSE(fs::exists(dir / "m"));
  expect_error(ErrorKind::usage, {"int3", "bfloat16"}, [&] { save_checkpoint(checkpoint, dir / "m", {.dtype = "int3"}); });
}

TEST(Checkpoint, HalfPrecisionWeightsComeBackRounded) {
  const TempDir dir;
  const Checkpoint checkpoint{.model = std::make_shared<LanguageModel>(mixtral_like_spec(), 3)};
  for (const auto& [name, type] : {std::pair{"bfloat16", torch::kBFloat16}, {"float16", torch::kFloat16}}) {
    save_checkpoint(checkpoint, dir / "m", {.dtype = name});
    EXPECT_EQ(config_in(dir / "m")["dtype"], name);
    const auto again = load_checkpoint(dir / "m").model->named_parameters();
    for (const auto& item : checkpoint.model->named_parameters())
      EXPECT_TRUE(same_bits(again[item.key()], item.value().to(type).to(torch::kFloat32))) << item.key();
  }
  const torch::NoGradGuard no_grad;
  checkpoint.model->named_parameters()["embed"].fill_(1e5);
  expect_error(ErrorKind::numeric, {"embed_tokens", "float16"}, [&] { save_checkpoint(checkpoint, dir / "m", {.dtype = "float16"}); });
  EXPECT_NO_THROW((void)load_checkpoint(dir / "m")) << "the earlier checkpoint stays";
}

TEST(Checkpoint, TokenizerAndTrainingStateTravelWithTheModel) {
  const TempDir dir;
  ModelSpec spec = llama_like_spec();
  spec.vocab_size = 257;
  Checkpoint checkpoint{.model = std::make_shared<LanguageModel>(spec, 3), .tokenizer = make_byte_tokenizer()};
  checkpoint.training_tensors = {{"adam.m.embed", torch::rand({3, 2})}, {"cursor", torch::tensor({7, -1}, torch::kInt64)}};
  checkpoint.training_state = {{"step", 12}};
  save_checkpoint(checkpoint, dir / "m");
  const auto plain = load_checkpoint(dir / "m"), whole = load_checkpoint(dir / "m", true);
  ASSERT_TRUE(plain.tokenizer);
  EXPECT_EQ(plain.tokenizer->encode("hello"), checkpoint.tokenizer->encode("hello"));
  EXPECT_EQ(config_in(dir / "m")["eos_token_id"], 256);
  EXPECT_TRUE(plain.training_tensors.empty());
  EXPECT_EQ(whole.training_state, checkpoint.training_state);
  ASSERT_EQ(whole.training_tensors.size(), 2u);
  for (const auto& [name, tensor] : checkpoint.training_tensors) EXPECT_TRUE(same_bits(whole.training_tensors.at(name), tensor)) << name;

  expect_error(ErrorKind::checkpoint, {"training_state.json"}, [] { (void)load_checkpoint(golden_folder("llama"), true); });
}

TEST(Checkpoint, ATokenizerLargerThanTheVocabularyIsRefused) {
  Spoilt spoilt("llama");
  write_file_atomic(spoilt.folder() / "tokenizer.json", make_byte_tokenizer()->to_json().dump());
  spoilt.expect_refused(ErrorKind::checkpoint, {"tokenizer.json", "257 tokens", "vocab_size = 128"});
}

TEST(Checkpoint, MissingAndForeignTensorsAreListed) {
  Spoilt spoilt("mixtral");
  spoilt.tensors.erase("model.norm.weight");
  spoilt.tensors["model.layers.7.extra"] = torch::zeros({1});
  spoilt.expect_refused(ErrorKind::checkpoint, {"1 missing: 'model.norm.weight'", "1 not in the model: 'model.layers.7.extra'"});
}

TEST(Checkpoint, KnownLeftoversAreIgnored) {
  Spoilt spoilt("llama");
  spoilt.tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch::zeros({4});
  spoilt.write();
  EXPECT_NO_THROW((void)load_checkpoint(spoilt.folder()));
}

TEST(Checkpoint, AWrongShapeNamesTheKeyOfTheConfig) {
  Spoilt spoilt("mixtral");
  spoilt.tensors["model.layers.1.block_sparse_moe.gate.weight"] = torch::zeros({4, 32});
  spoilt.expect_refused(ErrorKind::checkpoint, {"model.safetensors", "layers.1.block_sparse_moe.gate.weight", "[4, 32]", "[8, 32]", "num_local_experts = 8"});
}

TEST(Checkpoint, AConfigThatPromisesOtherSizesIsRefused) {
  Spoilt wider("llama");
  wider.config["intermediate_size"] = 48;
  wider.expect_refused(ErrorKind::checkpoint, {"[40, 32]", "[48, 32]", "intermediate_size = 48"});
  Spoilt deeper("llama");
  deeper.config["num_hidden_layers"] = 4;
  deeper.expect_refused(ErrorKind::checkpoint, {"9 missing", "model.layers.3."});
}

TEST(Checkpoint, SizesOutOfAllProportionAreRefusedBeforeAllocation) {
  Spoilt spoilt("llama");
  spoilt.config["intermediate_size"] = 2'000'000'000;
  spoilt.config["num_hidden_layers"] = 1000;
  spoilt.expect_refused(ErrorKind::checkpoint, {"config.json describes 192000", "tensors hold"});
}

TEST(Checkpoint, WeightsThatAreNotFiniteAreNamed) {
  Spoilt nan("mixtral");
  nan.tensors["model.layers.2.block_sparse_moe.experts.5.w3.weight"].view({-1})[17] = std::numeric_limits<float>::quiet_NaN();
  nan.expect_refused(ErrorKind::checkpoint, {"experts.5.w3.weight", "nan", "element 17"});
  Spoilt inf("llama");
  inf.tensors["lm_head.weight"] = inf.tensors["lm_head.weight"].to(torch::kFloat16).fill_(std::numeric_limits<float>::infinity());
  inf.expect_refused(ErrorKind::checkpoint, {"lm_head.weight", "inf"});
}

TEST(Checkpoint, IntegersAreNoWeights) {
  Spoilt spoilt("llama");
  spoilt.tensors["model.norm.weight"] = torch::ones({32}, torch::kInt64);
  spoilt.expect_refused(ErrorKind::unsupported, {"model.norm.weight", "I64"});
}

TEST(Checkpoint, MoreChoicesThanExpertsAreRefused) {
  Spoilt spoilt("mixtral");
  spoilt.config["num_experts_per_tok"] = 9;
  spoilt.expect_refused(ErrorKind::config, {"config.json", "num_experts_per_tok = 9", "num_local_experts = 8"});
}

TEST(Checkpoint, TruncatedAndMissingFilesAreNamed) {
  Spoilt spoilt("llama");
  const auto file = spoilt.folder() / "model.safetensors";
  fs::resize_file(file, fs::file_size(file) - 5);
  expect_error(ErrorKind::checkpoint, {"model.safetensors"}, [&] { (void)load_checkpoint(spoilt.folder()); });
  fs::remove(file);
  expect_error(ErrorKind::checkpoint, {"model"}, [&] { (void)load_checkpoint(spoilt.folder()); });
  fs::remove(spoilt.folder() / "config.json");
  expect_error(ErrorKind::io, {"config.json", "no such file"}, [&] { (void)load_checkpoint(spoilt.folder()); });
  write_file_atomic(spoilt.folder() / "config.json", "{\"model_type\": ");
  expect_error(ErrorKind::config, {"config.json", "JSON"}, [&] { (void)load_checkpoint(spoilt.folder()); });
  write_file_atomic(spoilt.folder() / "config.json", "{}");
  expect_error(ErrorKind::config, {"config.json", "model_type"}, [&] { (void)load_checkpoint(spoilt.folder()); });
}

TEST(ForwardFile, WritesTheTensorsOfTheGoldenSetByName) {
  const TempDir dir;
  const Golden reference("mixtral");
  write_safetensors(dir / "in.safetensors",
                    {as_stored("input_ids", reference["padded.input_ids"]), as_stored("attention_mask", reference["padded.attention_mask"]),
                     as_stored("position_ids", reference["padded.position_ids"])});
  forward_file(golden_folder("mixtral"), dir / "in.safetensors", dir / "out.safetensors", "float32");
  const auto out = SafetensorsFile::open(dir / "out.safetensors");
  const auto seen = reference["padded.attention_mask"] != 0;
  EXPECT_TRUE(close_to(as_tensor(*out.find("logits")).index({seen}), reference["padded.logits"].index({seen}), 2e-5, 2e-5));
  EXPECT_EQ(out.find("moe.2.topk_index")->dtype, DType::i64);
  EXPECT_EQ(out.find("moe.2.topk_index")->shape, (std::vector<int64_t>{24, 2}));
  for (const char* name : {"hidden_states.0", "hidden_states.3", "layer.2.output", "moe.0.input", "moe.1.output"})
    EXPECT_EQ(out.find(name)->shape, (std::vector<int64_t>{2, 12, 32})) << name;

  // bfloat16 keeps 8 bits: only the scale of the result is checked, and only before the first choice of experts.
  forward_file(golden_folder("mixtral"), dir / "in.safetensors", dir / "half.safetensors", "bfloat16");
  const auto half = as_tensor(*SafetensorsFile::open(dir / "half.safetensors").find("moe.0.router_logits"));
  const auto rows = seen.view({-1});
  EXPECT_TRUE(close_to(half.index({rows}), reference["padded.moe.0.router_logits"].index({rows}), 0.1, 0.05));
  EXPECT_FALSE(close_to(half.index({rows}), reference["padded.moe.0.router_logits"].index({rows}), 1e-5, 1e-5)) << "nothing was rounded";
}

TEST(ForwardFile, InputThatDoesNotFitIsNamed) {
  const TempDir dir;
  const auto run = [&](const std::vector<TensorSource>& tensors) {
    write_safetensors(dir / "in.safetensors", tensors);
    forward_file(golden_folder("llama"), dir / "in.safetensors", dir / "out.safetensors", "float32");
  };
  const auto ids = torch::ones({1, 4}, torch::kInt64);
  expect_error(ErrorKind::checkpoint, {"in.safetensors", "input_ids"}, [&] { run({as_stored("ids", ids)}); });
  expect_error(ErrorKind::checkpoint, {"input_ids", "F32"}, [&] { run({as_stored("input_ids", ids.to(torch::kFloat32))}); });
  expect_error(ErrorKind::checkpoint, {"attention_mask", "[1, 3]", "[1, 4]"}, [&] {
    run({as_stored("input_ids", ids), as_stored("attention_mask", torch::ones({1, 3}, torch::kInt64))});
  });
}

}  // namespace
}  // namespace switchyard::testing
