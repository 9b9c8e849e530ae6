// gpt-oss as it is released: experts in four bits, as *_blocks and *_scales. Oracle: a decoder in the fewest words, its values
// written as an ordinary folder.
#include "base/config_tree.h"
#include "base/files.h"
#include "io/gguf/gguf.h"
#include "models/convert.h"
#include "models/golden.h"
#include "switchyard/checkpoint.h"
#include "test_files.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace switchyard::testing {
namespace {
namespace mxfp4 {

namespace fs = std::filesystem;
using json = nlohmann::ordered_json;

constexpr int64_t kExperts = 4, kWidth = 64, kInner = 32;

json config() {
  return {{"model_type", "gpt_oss"},
          {"vocab_size", 40},
          {"hidden_size", kWidth},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"head_dim", 16},
          {"max_position_embeddings", 64},
          {"intermediate_size", kInner},

          {"num_local_experts", kExperts},
          {"num_experts_per_tok", 2},
          {"sliding_window", 3},
          {"layer_types", {"sliding_attention", "full_attention"}},
          {"attention_bias", true}};
}

// X [N, 32 n, R] of blocks [N, R, n, 16] and scales [N, R, n]: nibble 2 i of a block is the low one of byte i; value = sign, then
// one of 0, 0.5, 1, 1.5, 2, 3, 4, 6, times 2^(scale - 127).
torch::Tensor decoded(const torch::Tensor& blocks, const torch::Tensor& scales) {
  const double magnitudes[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  const int64_t experts = blocks.size(0), rows = blocks.size(1), groups = blocks.size(2);
  auto out = torch::empty({experts, 32 * groups, rows});
  const auto b = blocks.accessor<uint8_t, 4>();
  const auto s = scales.accessor<uint8_t, 3>();
  auto x = out.accessor<float, 3>();
  for (int64_t e = 0; e < experts; ++e)
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t k = 0; k < 32 * groups; ++k) {
        const int code = k % 2 == 0 ? b[e][r][k / 32][k % 32 / 2] % 16 : b[e][r][k / 32][k % 32 / 2] / 16;
        const double value = std::ldexp(magnitudes[code % 8], s[e][r][k / 32] - 127);
        x[e][k][r] = static_cast<float>(code < 8 ? value : -value);
      }
  return out;
}

struct Folders {
  fs::path packed, plain;
};

// Codes are drawn; scales lie around 2^-6, so that weights have the size of weights.
Folders made(const fs::path& dir, const std::string& plain_dtype) {
  Checkpoint saved;
  saved.model =
      std::make_shared<LanguageModel>(find_family("gpt_oss").family->read_config(config_from_json(config(), "config.json")), 3);
  save_checkpoint(saved, dir / "base", {.family = "gpt_oss"});
  const auto file = SafetensorsFile::open(dir / "base/model.safetensors");
  std::vector<TensorSource> packed, plain;
  std::mt19937 random(5);
  const auto draw = [&](const std::vector<int64_t>& shape, int low, int high) {
    auto out = torch::empty(shape, torch::kUInt8);
    for (int64_t i = 0; i < out.numel(); ++i)
      out.data_ptr<uint8_t>()[i] = static_cast<uint8_t>(std::uniform_int_distribution<int>(low, high)(random));
    return out;
  };
  const auto add_packed = [&](const std::string& name, const torch::Tensor& bytes) {
    packed.push_back({name, DType::u8, bytes.sizes().vec(), [bytes](Sink& sink) {
                        sink.write({static_cast<const std::byte*>(bytes.data_ptr()), static_cast<size_t>(bytes.numel())});
                      }});
  };
  for (const TensorEntry& entry : file.entries()) {
    if (!entry.name.ends_with("experts.gate_up_proj") && !entry.name.ends_with("experts.down_proj")) {
      const auto values = as_tensor(entry);
      packed.push_back(as_stored(entry.name, values));
      plain.push_back(as_stored(entry.name, values));
      continue;
    }
    const int64_t rows = entry.shape[2], groups = entry.shape[1] / 32;
    const auto blocks = draw({kExperts, rows, groups, 16}, 0, 255), scales = draw({kExperts, rows, groups}, 118, 124);
    add_packed(entry.name + "_blocks", blocks);
    add_packed(entry.name + "_scales", scales);
    const auto values = decoded(blocks, scales);
    plain.push_back(as_stored(entry.name, plain_dtype == "bfloat16" ? values.to(torch::kBFloat16) : values));
  }
  const auto write = [&](const fs::path& folder, const std::vector<TensorSource>& tensors, json c) {
    fs::create_directory(folder);
    write_safetensors(folder / "model.safetensors", tensors);
    write_file_atomic(folder / "config.json", c.dump());
  };
  json quantised = config();
  quantised["quantization_config"] = {{"quant_method", "mxfp4"},
                                      {"modules_to_not_convert", {"model.layers.*.self_attn", "model.layers.*.mlp.router"}}};
  write(dir / "packed", packed, quantised);
  write(dir / "plain", plain, config());
  return {dir / "packed", dir / "plain"};
}

torch::Tensor logits_of(const fs::path& path) {
  const torch::NoGradGuard no_grad;
  auto model = load_checkpoint(path).model;
  model->eval();
  const auto ids = (torch::arange(24, torch::kInt64) * 7 % 40).view({2, 12});
  return model->logits(model->forward({ids, {}, {}}).hidden);
}

// The values fit bfloat16 (two bits behind the leading one), so that both ordinary folders say the same.
TEST(Mxfp4, ReleasedFoldersGiveTheLogitsOfTheirDecodedValues) {
  for (const std::string dtype : {"float32", "bfloat16"}) {
    const TempDir dir;
    const auto [packed, plain] = made(dir.path(), dtype);
    const auto want = logits_of(plain);
    EXPECT_TRUE(same_bits(logits_of(packed), want)) << dtype;
    EXPECT_GT(want.abs().max().item<double>(), 1e-3);
    EXPECT_TRUE(want.isfinite().all().item<bool>());
  }
}

// To GGUF without --quantize: the experts stay in four bits, with the same values; the rest stays as it is.
TEST(Mxfp4, ExpertsStayInFourBitsInGguf) {
  const TempDir dir;
  const auto [packed, plain] = made(dir.path(), "float32");
  plan_conversion(packed, dir / "m.gguf", {}).write({});
  const auto file = io::GgufFile::open(dir / "m.gguf");
  for (const char* name : {"ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"}) {
    const io::GgufTensor* weight = file.find(fmt::format("blk.1.{}.weight", name));
    const io::GgufTensor* bias = file.find(fmt::format("blk.1.{}.bias", name));
    ASSERT_TRUE(weight && bias) << name;
    EXPECT_EQ(weight->format->name, "MXFP4");
    EXPECT_EQ(bias->format->name, "F32");
  }
  EXPECT_EQ(file.find("blk.1.ffn_up_exps.weight")->shape, (std::vector<int64_t>{kExperts, kInner, kWidth}));
  EXPECT_EQ(file.find("blk.1.ffn_down_exps.weight")->shape, (std::vector<int64_t>{kExperts, kWidth, kInner}));
  EXPECT_EQ(file.find("blk.0.attn_q.weight")->format->name, "F32");
  EXPECT_TRUE(same_bits(logits_of(dir / "m.gguf"), logits_of(plain)));
  plan_conversion(dir / "m.gguf", dir / "folder", {}).write({});
  EXPECT_TRUE(same_bits(logits_of(dir / "folder"), logits_of(plain)));
}

}  // namespace mxfp4
}  // namespace
}  // namespace switchyard::testing
