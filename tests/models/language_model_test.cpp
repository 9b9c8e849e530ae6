#include "core/ops.h"
#include "expect_error.h"
#include "models/golden.h"
#include "models/small_specs.h"

namespace switchyard::testing {
namespace {

torch::Tensor some_ids(int64_t batch, int64_t seq, int64_t vocab, uint64_t seed = 3) {
  auto ids = torch::empty({batch, seq}, torch::kInt64);
  const RandomStream random(seed, "ids");
  for (int64_t i = 0; i < ids.numel(); ++i)
    ids.data_ptr<int64_t>()[i] = static_cast<int64_t>(random.below(static_cast<uint64_t>(i), static_cast<uint64_t>(vocab)));
  return ids;
}

TokenBatch batch_of(const torch::Tensor& ids) { return {ids, {}, {}}; }

// A scalar that depends on everything: logits, balance loss and z-loss.
torch::Tensor scalar_loss(LanguageModel& model, const TokenBatch& batch, const ForwardOptions& options = {}) {
  const auto out = model.forward(batch, options);
  const auto logits = model.logits(out.hidden).flatten(0, 1);
  const auto labels = batch.input_ids.flatten().roll(-1);
  return ops::cross_entropy(logits, labels).mean() + model.aux_loss(out.stats).total;
}

ModelSpec with_losses() {
  ModelSpec s = small_spec();
  s.moe->losses = {{"load_balance", {{"weight", 0.1}}}, {"router_z", {{"weight", 0.05}}}};
  s.moe->num_shared_experts = 1;
  return s;
}

std::map<std::string, torch::Tensor> gradients(LanguageModel& model, const TokenBatch& batch, const ForwardOptions& options) {
  model.zero_grad();
  scalar_loss(model, batch, options).backward();
  std::map<std::string, torch::Tensor> out;
  for (const auto& item : model.named_parameters()) out.emplace(item.key(), item.value().grad().clone());
  return out;
}

TEST(LanguageModel, ParametersAreAFunctionOfSpecificationAndSeed) {
  LanguageModel a(small_spec(), 5), b(small_spec(), 5), c(small_spec(), 6);
  for (const auto& item : a.named_parameters()) {
    EXPECT_TRUE(same_bits(item.value(), b.named_parameters()[item.key()])) << item.key();
    if (item.key().find("norm") == std::string::npos) {
      EXPECT_FALSE(item.value().equal(c.named_parameters()[item.key()])) << item.key();
    }
  }
}

TEST(LanguageModel, InitialWeightsHaveTheDocumentedDeviation) {
  ModelSpec s;
  s.vocab_size = 300;
  s.d_model = 64;
  s.num_layers = 8;
  s.d_ff = 128;
  LanguageModel model(s, 1);
  const auto p = model.named_parameters();
  const auto deviation = [&](const char* name) { return p[name].std().item<double>(); };
  // Sampling error of a deviation from n values: 1 / sqrt(2 n); n >= 4096, five sigmas.
  const double tolerance = 5 / std::sqrt(2 * 4096.0);
  EXPECT_NEAR(deviation("embed") / 0.02, 1, tolerance);
  EXPECT_NEAR(deviation("layers.3.attn.q_proj") / 0.02, 1, tolerance);
  EXPECT_NEAR(deviation("layers.3.attn.o_proj") / (0.02 / 4), 1, tolerance);
  EXPECT_NEAR(deviation("layers.3.ffn.w_in") / 0.02, 1, tolerance);
  EXPECT_NEAR(deviation("layers.3.ffn.w_out") / (0.02 / 4), 1, tolerance);
}

TEST(LanguageModel, LaterTokensDoNotChangeEarlierOnes) {
  LanguageModel model(with_losses(), 1);
  model.eval();
  auto ids = some_ids(2, 9, 19);
  const auto before = model.forward(batch_of(ids)).hidden;
  ids.slice(1, 6) = 0;
  const auto after = model.forward(batch_of(ids)).hidden;
  EXPECT_TRUE(same_bits(before.slice(1, 0, 6), after.slice(1, 0, 6)));
  EXPECT_FALSE(before.slice(1, 6).equal(after.slice(1, 6)));
}

TEST(LanguageModel, PackedDocumentsEqualSeparateOnes) {
  LanguageModel model(with_losses(), 1);
  model.eval();
  const auto ids = some_ids(1, 9, 19);
  const auto segments = torch::tensor({0, 0, 0, 0, 1, 1, 1, 1, 1}, torch::kInt32).view({1, 9});
  const auto positions = torch::tensor({0, 1, 2, 3, 0, 1, 2, 3, 4}, torch::kInt64).view({1, 9});
  const auto packed = model.forward({ids, positions, segments}).hidden;
  const auto first = model.forward(batch_of(ids.slice(1, 0, 4))).hidden, second = model.forward(batch_of(ids.slice(1, 4))).hidden;
  EXPECT_TRUE(close_to(packed, at::cat({first, second}, 1), 1e-5, 1e-5));
}

TEST(LanguageModel, PaddingIsCountedNowhereAndChangesNothing) {
  LanguageModel model(with_losses(), 1);
  model.eval();
  const auto ids = some_ids(1, 6, 19);
  const auto padded = at::cat({torch::zeros({1, 3}, torch::kInt64), ids}, 1);
  const auto segments = torch::tensor({-1, -1, -1, 0, 0, 0, 0, 0, 0}, torch::kInt32).view({1, 9});
  const auto positions = torch::tensor({0, 0, 0, 0, 1, 2, 3, 4, 5}, torch::kInt64).view({1, 9});
  const auto plain = model.forward(batch_of(ids)), left = model.forward({padded, positions, segments});
  EXPECT_TRUE(close_to(left.hidden.slice(1, 3), plain.hidden, 1e-5, 1e-5));
  ASSERT_EQ(left.stats.size(), 1u);
  EXPECT_EQ(left.stats[0].num_tokens, 6);
  EXPECT_TRUE(left.stats[0].counts.equal(plain.stats[0].counts));
  EXPECT_TRUE(close_to(model.aux_loss(left.stats).total, model.aux_loss(plain.stats).total, 1e-6, 1e-6));
}

TEST(LanguageModel, CachedTokensEqualTheWholeSequenceAlsoWithPadding) {
  const torch::NoGradGuard no_grad;
  LanguageModel model(with_losses(), 1);
  model.eval();
  const auto ids = some_ids(2, 8, 19);
  auto segments = torch::zeros({2, 8}, torch::kInt32);
  segments.slice(1, 0, 2)[1] = -1;
  const auto positions = (torch::arange(8).expand({2, 8}) - torch::tensor({0, 2}, torch::kInt64).unsqueeze(1)).clamp_min(0).contiguous();
  const auto whole = model.forward({ids, positions, segments}).hidden;
  KvCache cache(model.spec(), 2, 8);
  ForwardOptions options;
  options.cache = &cache;
  std::vector<torch::Tensor> parts;
  for (const auto& [first, last] : {std::pair{0, 5}, {5, 6}, {6, 8}}) {
    const auto cut = [&, f = first, l = last](const torch::Tensor& t) { return t.slice(1, f, l).contiguous(); };
    parts.push_back(model.forward({cut(ids), cut(positions), cut(segments)}, options).hidden);
  }
  const auto seen = segments >= 0;
  EXPECT_TRUE(close_to(at::cat(parts, 1).index({seen}), whole.index({seen}), 1e-5, 1e-5));
  expect_error(ErrorKind::usage, {"room for 8", "1 more"}, [&] { (void)model.forward(batch_of(ids.slice(1, 0, 1)), options); });
}

TEST(LanguageModel, ACallWithACacheCountsRoutesOnlyForATrace) {
  LanguageModel model(with_losses(), 18);
  model.eval();
  const auto ids = some_ids(1, 4, 19);
  const auto layers = model.moe_layers().size();
  ASSERT_GT(layers, 0u);
  EXPECT_EQ(model.forward(batch_of(ids)).stats.size(), layers);
  KvCache cache(model.spec(), 1, 8);
  ForwardOptions options;
  options.cache = &cache;
  EXPECT_TRUE(model.forward(batch_of(ids), options).stats.empty());
  ModelTrace trace;
  options.trace = &trace;
  EXPECT_EQ(model.forward(batch_of(ids), options).stats.size(), layers);
  EXPECT_EQ(trace.moe.begin()->second.stats.num_tokens, 4);
}

TEST(LanguageModel, GradientsEqualFiniteDifferencesInDoublePrecision) {
  LanguageModel model(with_losses(), 4);
  model.to(torch::kFloat64);
  model.eval();
  const auto batch = batch_of(some_ids(2, 5, 19));
  const auto exact = gradients(model, batch, {});
  const torch::NoGradGuard no_grad;
  constexpr double h = 1e-6;
  for (const auto& item : model.named_parameters()) {
    const auto& parameter = item.value();
    auto* values = parameter.data_ptr<double>();
    const auto gradient = exact.at(item.key()).flatten();
    for (int64_t i = 0; i < parameter.numel(); i += std::max<int64_t>(1, parameter.numel() / 5)) {
      const double before = values[i];
      values[i] = before + h;
      const double up = scalar_loss(model, batch).item<double>();
      values[i] = before - h;
      const double down = scalar_loss(model, batch).item<double>();
      values[i] = before;
      // The difference is exact to O(h^2) + rounding / h, about 1e-9; the router computes in double as well.
      EXPECT_NEAR(gradient[i].item<double>(), (up - down) / (2 * h), 1e-7) << item.key() << " element " << i;
    }
  }
}

TEST(LanguageModel, RecomputedActivationsGiveTheSameBits) {
  ModelSpec s = with_losses();
  s.dropout = 0.2;
  s.moe->gate = {"top_k", {{"k", 2}, {"jitter_eps", 0.1}}};
  s.moe->losses.push_back({"load_balance", {{"weight", 0.02}, {"layer_reduce", "pooled"}}});
  LanguageModel model(s, 2);
  model.train();
  TokenBatch batch = batch_of(some_ids(2, 7, 19));
  for (const bool padded : {false, true}) {
    if (padded) {
      batch.segments = torch::zeros({2, 7}, torch::kInt32);
      batch.segments.slice(1, 5)[0] = -1;
    }
    ForwardOptions options{.step = 3, .seed = 11};
    const auto kept = gradients(model, batch, options);
    options.checkpoint_activations = true;
    const auto recomputed = gradients(model, batch, options);
    for (const auto& [name, gradient] : kept) EXPECT_TRUE(same_bits(recomputed.at(name), gradient)) << name;
  }
}

TEST(LanguageModel, DropoutFollowsSeedStepAndPlaceOnly) {
  ModelSpec s = small_spec();
  s.dropout = 0.3;
  LanguageModel model(s, 2);
  const auto batch = batch_of(some_ids(2, 7, 19));
  const auto run = [&](ForwardOptions options) { return model.forward(batch, options).hidden; };
  const auto first = run({.step = 1, .seed = 1});
  EXPECT_TRUE(same_bits(run({.step = 1, .seed = 1}), first));
  EXPECT_FALSE(run({.step = 2, .seed = 1}).equal(first));
  EXPECT_FALSE(run({.step = 1, .seed = 2}).equal(first));
  EXPECT_FALSE(run({.step = 1, .first_token = 14, .seed = 1}).equal(first));
  model.eval();
  EXPECT_TRUE(same_bits(run({.step = 1, .seed = 1}), run({.step = 2, .seed = 2})));
}

TEST(LanguageModel, TiedEmbeddingsAreOneParameter) {
  ModelSpec s = small_spec();
  s.tie_embeddings = true;
  LanguageModel model(s, 1);
  EXPECT_FALSE(model.named_parameters().contains("head"));
  const auto h = torch::randn({3, 12});
  EXPECT_TRUE(close_to(model.logits(h), at::matmul(h, model.named_parameters()["embed"].t()), 1e-5, 1e-5));
}

TEST(LanguageModel, InputThatDoesNotFitIsRefused) {
  LanguageModel model(small_spec(), 1);
  expect_error(ErrorKind::usage, {"19", "vocab_size = 19"}, [&] { (void)model.forward(batch_of(torch::full({1, 2}, 19, torch::kInt64))); });
  expect_error(ErrorKind::usage, {"-1"}, [&] { (void)model.forward(batch_of(torch::full({1, 2}, -1, torch::kInt64))); });
  expect_error(ErrorKind::usage, {"17 tokens", "max_positions = 16"}, [&] { (void)model.forward(batch_of(some_ids(1, 17, 19))); });
  expect_error(ErrorKind::usage, {"positions", "16"}, [&] { (void)model.forward({some_ids(1, 2, 19), torch::full({1, 2}, 16, torch::kInt64), {}}); });
  expect_error(ErrorKind::usage, {"[batch, sequence]"}, [&] { (void)model.forward(batch_of(torch::zeros({4}, torch::kInt64))); });
}

}  // namespace
}  // namespace switchyard::testing
