// Models with packed weights compute what the same model computes with the values that the packed form stands for.
#include "core/packed_parameter.h"
#include "expect_error.h"
#include "infer/generate.h"
#include "kernels/isa.h"
#include "models/eval_mode.h"
#include "models/golden.h"
#include "switchyard/checkpoint.h"
#include "test_files.h"

#include <gtest/gtest.h>

#include <ATen/ATen.h>

namespace switchyard::testing {
namespace {
namespace packed_models {

const std::vector<std::string> kFolders = {"mixtral", "olmoe", "qwen2_moe", "deepseek_v2", "deepseek_v3", "granitemoe", "dbrx", "jamba", "jetmoe", "llama"};

torch::Tensor logits_of(LanguageModel& model) {
  const EvalMode eval(model);
  const auto ids = torch::arange(3, 3 + 22, torch::kInt64).view({2, 11});
  return model.logits(model.forward({.input_ids = ids, .positions = {}, .segments = {}}).hidden);
}

double largest_difference(const torch::Tensor& a, const torch::Tensor& b) { return (a - b).abs().max().item<double>() / b.abs().max().item<double>(); }

// The parameter that packed weights stand for.
torch::Tensor unpacked(const PackedWeights& w) {
  auto out = torch::empty({w.experts(), w.n(), w.k()});
  for (int64_t e = 0; e < w.experts(); ++e)
    for (int64_t r = 0; r < w.n(); ++r) w.unpack_row(e, r, out.data_ptr<float>() + (e * w.n() + r) * w.k());
  return out;
}

// The model in plain float32 with the values that a packed one stands for. A tied output layer keeps its embedding.
Checkpoint plain_twin(const std::string& folder, LanguageModel& packed) {
  Checkpoint twin = load_checkpoint(golden_folder(folder));
  const torch::NoGradGuard no_grad;
  const auto targets = twin.model->named_parameters();
  for (const auto& item : packed.named_parameters())
    if (const PackedWeights* w = packed_form(item.value())) targets[item.key()].copy_(unpacked(*w).view(item.value().sizes()));
  return twin;
}

bool has_packed(LanguageModel& model) {
  for (const Packable& part : model.packable())
    if (!packed_form(part.parameter)) return false;
  return !model.packable().empty();
}

// Float sums in another order: what k terms of float32 allow, with room for a few layers.
TEST(PackedModel, Float32IsTheModelItself) {
  for (const auto& folder : kFolders) {
    const auto packed = load_checkpoint(golden_folder(folder), false, "float32");
    ASSERT_TRUE(has_packed(*packed.model)) << folder;
    EXPECT_LE(largest_difference(logits_of(*packed.model), logits_of(*load_checkpoint(golden_folder(folder)).model)), 2e-5) << folder;
  }
}

TEST(PackedModel, Bfloat16IsTheModelOfRoundedWeights) {
  for (const auto& folder : kFolders) {
    const auto packed = load_checkpoint(golden_folder(folder), false, "bfloat16");
    const auto twin = plain_twin(folder, *packed.model);
    if (twin.model->spec().tie_embeddings) continue;  // rounds the output layer and not the embedding
    const auto got = logits_of(*packed.model), want = logits_of(*twin.model);
    // AMX rounds activations as well, and a router may then choose another expert for a token: most of them must be close.
    if (kernels::selected_isa() >= kernels::Isa::amx) {
      EXPECT_LE(((got - want).norm(2, {-1}) / want.norm(2, {-1})).median().item<double>(), 0.05) << folder;
    } else {
      EXPECT_LE(largest_difference(got, want), 2e-5) << folder;
    }
    // The rounding is of the size that 8 bits of a fraction have.
    EXPECT_GT(largest_difference(logits_of(*twin.model), logits_of(*load_checkpoint(golden_folder(folder)).model)), 1e-5) << folder;
  }
}

// Rows are quantised on the way: 1 / 254 of the largest value of a group in each. A router may then choose another expert
// for a token, so tokens are compared one by one and most of them must be close.
TEST(PackedModel, IntegersAreCloseToTheModelOfQuantisedWeights) {
  for (const char* format : {"int8", "int4"})
    for (const auto& folder : {"mixtral", "olmoe", "llama", "dbrx"}) {
      const auto packed = load_checkpoint(golden_folder(folder), false, format);
      const auto twin = plain_twin(folder, *packed.model);
      const auto a = logits_of(*packed.model), b = logits_of(*twin.model);
      const auto error = (a - b).norm(2, {-1}) / b.norm(2, {-1});
      EXPECT_LE(error.median().item<double>(), 0.05) << folder << " " << format;
    }
}

TEST(PackedModel, AutoFollowsWhatIsStored) {
  const auto narrow = load_checkpoint(golden_folder("olmoe-bf16"), false, "auto"), wide = load_checkpoint(golden_folder("olmoe"), false, "auto");
  for (const Packable& part : narrow.model->packable()) EXPECT_EQ(packed_form(part.parameter)->format(), WeightFormat::bfloat16);
  for (const Packable& part : wide.model->packable()) EXPECT_EQ(packed_form(part.parameter)->format(), WeightFormat::float32);
}

TEST(PackedModel, GreedyTextIsThatOfThePlainModel) {
  const std::vector<int32_t> prompt = {1, 2, 3};
  GenerateOptions how;
  how.max_tokens = 10;
  how.ignore_eos = true;
  how.sampling.temperature = 0;
  for (const auto& folder : kFolders) {
    const auto plain = load_checkpoint(golden_folder(folder)), packed = load_checkpoint(golden_folder(folder), false, "float32");
    EXPECT_EQ(generate(*packed.model, nullptr, prompt, how).ids, generate(*plain.model, nullptr, prompt, how).ids) << folder;
  }
}

TEST(PackedModel, CannotBeSavedTrainedOrAveraged) {
  const auto packed = load_checkpoint(golden_folder("mixtral"), false, "bfloat16");
  const TempDir dir;
  expect_error(ErrorKind::unsupported, {"is packed"}, [&] { save_checkpoint(packed, dir / "out"); });
  EXPECT_FALSE(std::filesystem::exists(dir / "out" / "config.json"));
  auto* moe = packed.model->moe_layers().front().second;
  expect_error(ErrorKind::unsupported, {"--weights plain"}, [&] { (void)moe->experts().flat_weights(); });
  const auto x = torch::randn({3, packed.model->spec().d_model}).requires_grad_();
  auto all_on_first = torch::full({moe->options().num_experts + 1}, 3, torch::kInt64);
  all_on_first[0] = 0;
  expect_error(ErrorKind::unsupported, {"no gradient"}, [&] { (void)moe->experts().forward(x, all_on_first, {}); });
  expect_error(ErrorKind::usage, {"'int3'", "int4"}, [&] { packed.model->pack_weights("int3"); });
  packed.model->pack_weights("int8");  // what is packed stays as it is
  EXPECT_EQ(packed_form(packed.model->packable().front().parameter)->format(), WeightFormat::bfloat16);
}

// Whoever reads a packed parameter as numbers gets NaN, not zeros.
TEST(PackedModel, ThePlainFormIsNaN) {
  const auto p = torch::ones({40, 70});
  pack_parameter({p}, WeightFormat::int8);
  EXPECT_TRUE(p.isnan().all().item<bool>());
  EXPECT_EQ(p.sizes(), (std::vector<int64_t>{40, 70}));
  EXPECT_THROW(pack_parameter({p}, WeightFormat::int8), Error);
  EXPECT_THROW(pack_parameter({torch::ones({4, 6}).t()}, WeightFormat::int8), Error);
}

TEST(PackedModel, TheTableForgetsWhatIsGone) {
  const void* address = nullptr;
  {
    const auto p = torch::ones({40, 70});
    pack_parameter({p}, WeightFormat::bfloat16);
    address = p.data_ptr();
    EXPECT_NE(packed_form(p), nullptr);
  }
  const auto other = torch::from_blob(const_cast<void*>(address), {1}, torch::kFloat32);  // only the address is asked for
  EXPECT_EQ(packed_form(other), nullptr);
}

}  // namespace packed_models
}  // namespace
}  // namespace switchyard::testing
