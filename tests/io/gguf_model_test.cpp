// A GGUF file as a Hugging Face folder and back, without any model: names, shapes, order of rows, metadata, what is refused.
#include "expect_error.h"
#include "io/gguf/gguf_config.h"
#include "io/gguf/gguf_model.h"
#include "io/gguf/rope_rows.h"
#include "test_files.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

namespace switchyard::io {
namespace {
namespace gguf_model {

using nlohmann::ordered_json;
using testing::expect_error;
using testing::TempDir;

const ordered_json kMixtral = {{"model_type", "mixtral"},
                               {"vocab_size", 6},
                               {"hidden_size", 8},
                               {"intermediate_size", 4},
                               {"num_hidden_layers", 2},
                               {"num_attention_heads", 2},
                               {"num_key_value_heads", 1},
                               {"head_dim", 4},
                               {"max_position_embeddings", 32},
                               {"rms_norm_eps", 1e-5},
                               {"rope_theta", 1e6},
                               {"num_local_experts", 3},
                               {"num_experts_per_tok", 2},
                               {"tie_word_embeddings", false},
                               {"bos_token_id", 1},
                               {"eos_token_id", 2}};

// Tensors of random values that own their memory.
struct Weights {
  std::vector<std::unique_ptr<std::vector<float>>> values;
  std::unique_ptr<TensorView> view = std::make_unique<TensorView>("weights", nullptr);

  void add(const std::string& name, std::vector<int64_t> shape) {
    static std::mt19937 random(1);
    int64_t n = 1;
    for (const int64_t size : shape) n *= size;
    values.push_back(std::make_unique<std::vector<float>>(static_cast<size_t>(n)));
    for (float& value : *values.back()) value = std::normal_distribution<float>()(random);
    view->add({name, DType::f32, std::move(shape), std::as_bytes(std::span(*values.back()))}, "weights");
  }
};

Weights mixtral_weights(bool without_last = false) {
  Weights w;
  w.add("model.embed_tokens.weight", {6, 8});
  w.add("model.norm.weight", {8});
  w.add("lm_head.weight", {6, 8});
  for (int i = 0; i < 2; ++i) {
    const auto layer = fmt::format("model.layers.{}.", i);
    w.add(layer + "input_layernorm.weight", {8});
    w.add(layer + "post_attention_layernorm.weight", {8});
    w.add(layer + "self_attn.q_proj.weight", {8, 8});
    w.add(layer + "self_attn.k_proj.weight", {4, 8});
    w.add(layer + "self_attn.v_proj.weight", {4, 8});
    w.add(layer + "self_attn.o_proj.weight", {8, 8});
    w.add(layer + "block_sparse_moe.gate.weight", {3, 8});
    for (int e = 0; e < 3; ++e) {
      if (without_last && i == 1 && e == 2) continue;
      w.add(fmt::format("{}block_sparse_moe.experts.{}.w1.weight", layer, e), {4, 8});
      w.add(fmt::format("{}block_sparse_moe.experts.{}.w3.weight", layer, e), {4, 8});
      w.add(fmt::format("{}block_sparse_moe.experts.{}.w2.weight", layer, e), {8, 4});
    }
  }
  return w;
}

std::vector<float> floats(const TensorEntry& entry) {
  std::vector<float> out(static_cast<size_t>(entry.numel()));
  to_float32(entry, out.data());
  return out;
}

void write(const std::filesystem::path& path, const GgufPlan& plan) { write_gguf(path, plan.metadata, plan.tensors); }

// The rule of the GGUF description: reshape(heads, 2, c / 2, ...), swap the middle two, flatten.
TEST(GgufModel, RowsOfHeadsAreInterleaved) {
  for (const int64_t c : {2, 4, 8, 48})
    for (int64_t head = 0; head < 3; ++head)
      for (int64_t half = 0; half < 2; ++half)
        for (int64_t j = 0; j < c / 2; ++j) EXPECT_EQ(hf_row_of(head * c + j * 2 + half, c), head * c + half * (c / 2) + j);
}

TEST(GgufModel, EveryTensorComesBack) {
  const TempDir dir;
  const Weights w = mixtral_weights();
  write(dir / "m.gguf", plan_gguf(kMixtral, *w.view, nullptr, {}, {}));
  const GgufModel back = open_gguf_model(dir / "m.gguf");
  ASSERT_EQ(back.tensors->entries().size(), w.view->entries().size());
  for (const TensorEntry* entry : w.view->entries()) {
    EXPECT_EQ(back.tensors->at(entry->name).shape, entry->shape) << entry->name;
    EXPECT_EQ(floats(back.tensors->at(entry->name)), floats(*entry)) << entry->name;
  }
  for (const auto& [key, value] : kMixtral.items())
    if (!key.ends_with("_token_id")) {  // ids stand with the tokenizer, and there is none
      EXPECT_EQ(back.config[key], value) << key;
    }
  EXPECT_FALSE(back.tokenizer.has_value());

  // Inside the file: experts stacked in order, and the second row of q is the first of the second half of head 0.
  const auto file = GgufFile::open(dir / "m.gguf");
  const GgufTensor& stack = *file.find("blk.1.ffn_up_exps.weight");
  EXPECT_EQ(stack.shape, (std::vector<int64_t>{3, 4, 8}));
  EXPECT_EQ(std::memcmp(stack.bytes.data() + 2 * 4 * 8 * 4, w.view->at("model.layers.1.block_sparse_moe.experts.2.w3.weight").bytes.data(), 4 * 8 * 4), 0);
  const auto q = w.view->at("model.layers.0.self_attn.q_proj.weight").bytes;
  EXPECT_EQ(std::memcmp(file.find("blk.0.attn_q.weight")->bytes.data() + 8 * 4, q.data() + 2 * 8 * 4, 8 * 4), 0);
  EXPECT_EQ(to_json(*find(file.metadata(), "llama.rope.freq_base")), 1e6);
  EXPECT_EQ(to_json(*find(file.metadata(), "llama.rope.dimension_count")), 4);
  EXPECT_EQ(to_json(*find(file.metadata(), "general.file_type")), 0);
}

// Files of early 2024 hold a tensor for each expert.
TEST(GgufModel, ReadsTheOlderNamesOfExperts) {
  const TempDir dir;
  const Weights w = mixtral_weights();
  GgufPlan plan = plan_gguf(kMixtral, *w.view, nullptr, {}, {});
  std::vector<GgufTensorSource> tensors;
  for (const GgufTensorSource& tensor : plan.tensors) {
    const size_t at = tensor.name.find("_exps.");
    if (at == tensor.name.npos) {
      tensors.push_back(tensor);
      continue;
    }
    const auto numbers = *match("blk.{i}", tensor.name.substr(0, 5));
    const std::string hf = tensor.name.find("gate") != tensor.name.npos ? "w1" : tensor.name.find("up") != tensor.name.npos ? "w3" : "w2";
    for (int e = 0; e < 3; ++e) {
      const TensorEntry& entry = w.view->at(fmt::format("model.layers.{}.block_sparse_moe.experts.{}.{}.weight", numbers.layer, e, hf));
      tensors.push_back(
          {fmt::format("{}.{}.weight", tensor.name.substr(0, at), e), GgmlType::f32, entry.shape, [&entry](Sink& sink) { sink.write(entry.bytes); }});
    }
  }
  write_gguf(dir / "old.gguf", plan.metadata, tensors);
  const GgufModel back = open_gguf_model(dir / "old.gguf");
  for (const TensorEntry* entry : w.view->entries()) EXPECT_EQ(floats(back.tensors->at(entry->name)), floats(*entry)) << entry->name;
}

TEST(GgufModel, MissingAndForeignTensorsAreNamed) {
  const TempDir dir;
  const Weights few = mixtral_weights(true);
  expect_error(ErrorKind::checkpoint, {"'model.layers.1.block_sparse_moe.experts.2.w1.weight' is missing"},
               [&] { (void)plan_gguf(kMixtral, *few.view, nullptr, {}, {}); });
  Weights many = mixtral_weights();
  many.add("model.layers.7.extra", {1});
  expect_error(ErrorKind::checkpoint, {"'model.layers.7.extra' does not belong"}, [&] { (void)plan_gguf(kMixtral, *many.view, nullptr, {}, {}); });

  const Weights w = mixtral_weights();
  GgufPlan plan = plan_gguf(kMixtral, *w.view, nullptr, {}, {});
  auto tensors = plan.tensors;
  tensors.push_back({"blk.0.mystery.weight", GgmlType::f32, {0}, [](Sink&) {}});
  write_gguf(dir / "more.gguf", plan.metadata, tensors);
  expect_error(ErrorKind::checkpoint, {"more.gguf", "'blk.0.mystery.weight'"}, [&] { (void)open_gguf_model(dir / "more.gguf"); });
  std::erase_if(plan.tensors, [](const GgufTensorSource& t) { return t.name == "blk.1.attn_v.weight"; });
  write(dir / "less.gguf", plan);
  expect_error(ErrorKind::checkpoint, {"'blk.1.attn_v.weight' is missing"}, [&] { (void)open_gguf_model(dir / "less.gguf"); });
}

TEST(GgufModel, MetadataThatChangesTheModelIsRefused) {
  const TempDir dir;
  const Weights w = mixtral_weights();
  const GgufPlan plan = plan_gguf(kMixtral, *w.view, nullptr, {}, {});
  const auto with = [&](const std::string& key, GgufValue value) {
    GgufPlan changed = plan;
    std::erase_if(changed.metadata, [&](const auto& item) { return item.first == key; });
    changed.metadata.emplace_back(key, std::move(value));
    write(dir / "m.gguf", changed);
  };
  const auto refused = [&](ErrorKind kind, std::initializer_list<std::string_view> words) {
    expect_error(kind, words, [&] { (void)open_gguf_model(dir / "m.gguf"); });
  };
  with("llama.attention.sliding_window", gguf_u32(128));
  refused(ErrorKind::unsupported, {"llama.attention.sliding_window", "128"});
  with("llama.rope.dimension_count", gguf_u32(2));
  refused(ErrorKind::unsupported, {"rope.dimension_count = 2", "4"});
  with("general.architecture", gguf_string("mamba"));
  refused(ErrorKind::unsupported, {"'mamba'", "llama"});
  with("llama.block_count", gguf_strings({"two"}));
  refused(ErrorKind::unsupported, {"llama.block_count"});
  with("llama.expert_count", gguf_u32(4));
  refused(ErrorKind::checkpoint, {"ffn_gate_exps", "4 experts"});
  with("llama.rope.scaling.type", gguf_string("longrope"));
  refused(ErrorKind::unsupported, {"llama.rope.scaling.type", "longrope", "linear or yarn"});
  with("llama.rope.scaling.type", gguf_string("\x80"));  // no UTF-8: the message still comes
  refused(ErrorKind::unsupported, {"llama.rope.scaling.type", "linear or yarn"});
  with("llama.rope.scaling.yarn_attn_factor", gguf_f32(1.5));
  refused(ErrorKind::unsupported, {"llama.rope.scaling.yarn_attn_factor", "1.5"});
  with("llama.rope.scaling.factor", gguf_f32(4));  // without a type: linear
  EXPECT_EQ(open_gguf_model(dir / "m.gguf").config["rope_scaling"].dump(), R"({"rope_type":"linear","factor":4.0})");
  ordered_json scaled = kMixtral;
  scaled["rope_scaling"] = {{"rope_type", "dynamic"}, {"factor", 4}};
  expect_error(ErrorKind::unsupported, {"rope_scaling", "'dynamic'"}, [&] { (void)plan_gguf(scaled, *w.view, nullptr, {}, {}); });
}

TEST(GgufModel, RowsThatFitNoBlockAreNoted) {
  const Weights w = mixtral_weights();
  const GgufPlan plan = plan_gguf(kMixtral, *w.view, nullptr, {}, {GgmlType::q8_0});
  EXPECT_FALSE(plan.notes.empty());
  for (const GgufTensorSource& tensor : plan.tensors)
    EXPECT_EQ(tensor.type, tensor.shape.size() < 2 || tensor.name.find("ffn_gate_inp") != tensor.name.npos ? GgmlType::f32 : GgmlType::f16) << tensor.name;
}

}  // namespace gguf_model
}  // namespace
}  // namespace switchyard::io
