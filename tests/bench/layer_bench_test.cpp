// What the benchmarks of layers and models measure is what they say.
#include "bench/layer_bench.h"
#include "bench/model_bench.h"
#include "bench/torch_layer.h"
#include "core/packed_parameter.h"
#include "expect_error.h"
#include "models/small_specs.h"
#include "switchyard/language_model.h"

#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include <set>

namespace switchyard::bench {
namespace {

const LayerShape kSmall{"small", 48, 32, 6, 2, 1};

TEST(LayerShapes, NamesAreFoundAndOthersAreListed) {
  EXPECT_EQ(layer_shape("mixtral").d_expert, 14336);
  EXPECT_EQ(layer_shape("fine").num_shared, 2);
  testing::expect_error(ErrorKind::usage, {"'gpt'", "olmoe", "demo"}, [] { (void)layer_shape("gpt"); });
}

TEST(LayerShapes, RoutingsAreWhatTheirNamesSay) {
  const LayerShape shape{"", 8, 8, 16, 4};
  const auto shares = [&](const std::string& routing) {
    const auto ids = random_choice(shape, 2000, routing, RandomStream(3)).expert_ids;
    for (int64_t t = 0; t < ids.size(0); ++t) {
      const auto* row = ids.data_ptr<int64_t>() + 4 * t;
      EXPECT_EQ(std::set<int64_t>(row, row + 4).size(), 4u) << "the experts of a token differ";
    }
    return at::bincount(ids.flatten(), {}, 16).to(torch::kFloat64) / 2000.0;
  };
  EXPECT_NEAR((shares("uniform") - 0.25).abs().max().item<double>(), 0, 0.04);  // four standard deviations of 2000 draws
  const auto one = shares("one");
  EXPECT_EQ((one == 1).sum().item<int64_t>(), 4);
  EXPECT_EQ(one.sum().item<double>(), 4);
  // First choices follow 1 / (e + 1): the most popular expert is the first one of 1 / H_16 = 0.296 of the tokens and among the
  // four of most; the least popular one of few.
  const auto zipf = std::get<0>(shares("zipf").sort());
  EXPECT_GT(zipf[15].item<double>(), 0.6);
  EXPECT_LT(zipf[0].item<double>(), 0.15);
  testing::expect_error(ErrorKind::usage, {"'flat'", "zipf"}, [&] { (void)random_choice(shape, 1, "flat", RandomStream(0)); });
}

TEST(TorchLayer, IsTheLayer) {
  MoELayer layer({.d_model = 48, .d_expert = 32, .num_experts = 6, .num_shared_experts = 1, .init_std = 0.3, .init_out_std = 0.3, .seed = 5});
  const TorchLayer other(layer, torch::kFloat32, false);
  const auto x = torch::randn({17, 48});
  const auto choice = random_choice(kSmall, 17, "uniform", RandomStream(1));
  const torch::NoGradGuard no_grad;
  const auto want = layer.apply(x, {}, {.choice = choice}), got = other.forward(x, choice);
  EXPECT_LE((got - want).abs().max().item<double>(), 1e-5 * want.abs().max().item<double>());
}

TEST(LayerBench, RowsAddUp) {
  for (const bool backward : {false, true})
    for (const std::string dtype : {"float32", "bfloat16", "int8", "int4"}) {
      if (backward && dtype.starts_with("int")) continue;
      std::vector<int64_t> heard;
      const auto rows = bench_layer({.shape = kSmall, .dtype = dtype, .tokens = {1, 9}, .backward = backward, .seconds = 0}, [&](const LayerBenchRow& r) { heard.push_back(r.tokens); });
      EXPECT_EQ(heard, (std::vector<int64_t>{1, 9}));
      for (const LayerBenchRow& r : rows) {
        EXPECT_EQ(r.turns, 3);
        EXPECT_NEAR(r.gflops * r.us * 1e3, (backward ? 3 : 1) * 6.0 * 3 * 48 * 32 * static_cast<double>(r.tokens), 1);
        EXPECT_GT(r.ratio_libtorch, 0);
        EXPECT_NEAR(r.ratio_dense * r.dense_us, r.us, 1e-6 * r.us);
        EXPECT_TRUE(r.roof == "memory" || r.roof == "compute");
        EXPECT_LE(r.max_error, dtype == "int4" ? 0.4 : dtype == "int8" ? 0.05 : dtype == "bfloat16" ? 0.04 : 1e-5) << dtype;
      }
      // One token: two experts and the shared one; bytes as the packed form has them.
      if (!backward && dtype == "float32") {
        EXPECT_NEAR(rows[0].gbps * rows[0].us * 1e3, 3 * 3 * 48 * 32 * 4, 1);
      }
    }
}

TEST(LayerBench, MemoryDecidesHowManyExperts) {
  LayerBenchOptions o{.shape = layer_shape("mixtral"), .tokens = {1}};
  constexpr int64_t kGiB = int64_t{1} << 30;
  EXPECT_EQ(shape_that_fits(o, 0).num_experts, 8);
  EXPECT_EQ(shape_that_fits(o, 64 * kGiB).num_experts, 8);
  // Beside 2 GiB for the limits: per expert 4 bytes for libtorch's float32, 2 for its bfloat16 and 2 packed, for the layer and for the neighbour
  // of 2; for the dense network of 2 all but libtorch's. An expert is 3 * 4096 * 14336 = 0.164 Gi weights.
  const double expert = 3.0 * 4096 * 14336;
  EXPECT_EQ(shape_that_fits(o, static_cast<int64_t>(2.1 * kGiB + expert * (8 * 4 + 8 * 2 + 6 * 2))).num_experts, 4);
  o.alternative = false;
  EXPECT_EQ(shape_that_fits(o, static_cast<int64_t>(2.1 * kGiB + expert * (6 * 4 + 6 * 2 + 6 * 2))).num_experts, 4);
  testing::expect_error(ErrorKind::usage, {"mixtral", "2 experts", "3.0 GiB"}, [&] { (void)shape_that_fits(o, 3 * kGiB); });
}

TEST(LayerBench, IntegersHaveNoBackward) {
  testing::expect_error(ErrorKind::usage, {"int8", "--direction both"}, [] { (void)bench_layer({.shape = kSmall, .dtype = "int8", .tokens = {1}, .backward = true}); });
}

TEST(ModelBench, CountsTheBytesOfOneToken) {
  ModelSpec spec = testing::small_spec();
  const auto r = bench_model({.spec = spec, .weights = "float32", .prompt = 5, .new_tokens = 3, .turns = 1, .libtorch = true});
  // float32: strips of 16 outputs. q 16, k and v 16 each, o 16 rows; dense 2 x 16 gate and up rows, 16 down; head 32.
  const double attention = 4.0 * (3 * 16 * 12 + 16 * 8), dense = 4.0 * (32 * 12 + 16 * 10), expert = 4.0 * (32 * 12 + 16 * 6), head = 4.0 * 32 * 12;
  EXPECT_NEAR(r.weight_bytes, 2 * attention + dense + 4 * expert + head, 1);
  EXPECT_NEAR(r.active_bytes, 2 * attention + dense + 2 * expert + head, 1);
  EXPECT_GT(r.prefill_tokens_per_s, 0);
  EXPECT_GT(r.decode_tokens_per_s, 0);
  EXPECT_GT(r.ratio_libtorch, 0);
  EXPECT_NEAR(r.decode_gbps, r.active_bytes * r.decode_tokens_per_s * 1e-9, 1e-12);
}

TEST(ModelBench, RandomModelsAreFunctionsOfTheSeed) {
  const ModelSpec spec = testing::small_spec();
  const auto logits = [&](uint64_t seed) {
    const auto model = random_packed_model(spec, "bfloat16", seed);
    const torch::NoGradGuard no_grad;
    return model->logits(model->forward({.input_ids = torch::tensor({{1, 2, 3}}, torch::kInt64), .positions = {}, .segments = {}}).hidden);
  };
  EXPECT_TRUE(logits(1).equal(logits(1)));
  EXPECT_FALSE(logits(1).equal(logits(2)));
  EXPECT_TRUE(logits(1).isfinite().all().item<bool>());
}

}  // namespace
}  // namespace switchyard::bench
