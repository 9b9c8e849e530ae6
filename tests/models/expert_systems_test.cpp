// Published expert networks inside whole models: how they are counted, stored, repeated and recomputed.
#include "core/ops.h"
#include "expect_error.h"
#include "models/golden.h"
#include "models/small_specs.h"
#include "switchyard/checkpoint.h"
#include "test_files.h"

#include <set>

namespace switchyard::expert_systems_test {  // its own: tests of a folder compile as one unit
namespace {

using namespace switchyard::testing;

TokenBatch batch_of(int64_t batch, int64_t seq) {
  auto ids = torch::empty({batch, seq}, torch::kInt64);
  const RandomStream random(3, "ids");
  for (int64_t i = 0; i < ids.numel(); ++i) ids.data_ptr<int64_t>()[i] = static_cast<int64_t>(random.below(static_cast<uint64_t>(i), 19));
  return {ids, {}, {}};
}

// Distinct tensors: what layers hold in common counts once.
int64_t built_parameters(const ModelSpec& s) {
  int64_t out = 0;
  std::set<const void*> seen;
  for (const auto& p : LanguageModel(s, std::nullopt).parameters())
    if (seen.insert(p.unsafeGetTensorImpl()).second) out += p.numel();
  return out;
}

std::map<std::string, torch::Tensor> gradients(LanguageModel& model, bool recompute) {
  model.zero_grad();
  const auto batch = batch_of(2, 7);
  const auto out = model.forward(batch, {.step = 3, .seed = 11, .checkpoint_activations = recompute});
  ops::cross_entropy(model.logits(out.hidden).flatten(0, 1), batch.input_ids.flatten().roll(-1)).mean().backward();
  std::map<std::string, torch::Tensor> grads;
  for (const auto& item : model.named_parameters())
    if (item.value().grad().defined()) grads.emplace(item.key(), item.value().grad().is_sparse() ? item.value().grad().to_dense() : item.value().grad().clone());
  return grads;
}

void expect_same_after_saving(const ModelSpec& s) {
  const TempDir dir;
  const Checkpoint saved{.model = std::make_shared<LanguageModel>(s, 3)};
  save_checkpoint(saved, dir / "m");
  const auto again = load_checkpoint(dir / "m");
  EXPECT_EQ(to_json(again.model->spec()), to_json(saved.model->spec()));
  saved.model->eval();
  again.model->eval();
  EXPECT_TRUE(same_bits(again.model->forward(batch_of(2, 7)).hidden, saved.model->forward(batch_of(2, 7)).hidden));
}

ModelSpec hyper_spec() {
  ModelSpec s = mixtral_like_spec();
  s.moe->join = {"hyper", {{"embedding", 6}, {"hidden", 7}, {"layer_embedding", 3}, {"bottleneck", 4}, {"head_scale", 1.0}}};
  return s;
}

TEST(HyperMoeModel, CountsItsHypernetworkOnce) {
  const ModelSpec s = hyper_spec();
  ModelSpec host = s, deep = s;
  host.moe->join = "sum";
  const int64_t common = 7 * 6 + 7 + 7 * 7 + 7 + 7 * 10 + 7 + 2 * 7 * 4 * 12 + 7 * 4 + 7 * 12, own = 4 * 6 + 3;
  EXPECT_EQ(count_parameters(s).total - count_parameters(host).total, common + 2 * own);
  EXPECT_EQ(count_parameters(s).total, built_parameters(s));
  deep.num_layers = 5;
  EXPECT_EQ(count_parameters(deep).total, built_parameters(deep));
}

TEST(HyperMoeModel, RecomputedActivationsGiveTheSameGradientsAlsoOfWhatLayersShare) {
  LanguageModel model(hyper_spec(), 2);
  model.train();
  const auto kept = gradients(model, false), recomputed = gradients(model, true);
  ASSERT_TRUE(kept.count("layers.0.ffn.join.network.down"));
  EXPECT_GT(kept.at("layers.0.ffn.join.network.down").abs().max().item<double>(), 0);
  ASSERT_EQ(kept.size(), recomputed.size());
  for (const auto& [name, gradient] : kept) EXPECT_TRUE(close_to(recomputed.at(name), gradient, 1e-6, 1e-5)) << name;
}

TEST(HyperMoeModel, SavedAndLoadedItIsTheSameModel) { expect_same_after_saving(hyper_spec()); }

ModelSpec peer_spec() {
  ModelSpec s = llama_like_spec();
  s.ffn = {"peer", {{"num_keys", 8}, {"heads", 2}, {"k", 3}, {"d_key", 4}}};
  return s;
}

TEST(PeerModel, CountsWhatItHoldsAndWhatATokenMeets) {
  const ModelSpec s = peer_spec();
  const auto count = count_parameters(s);
  EXPECT_EQ(count.total, built_parameters(s));
  EXPECT_EQ(count.total - count.active, 2 * 2 * (64 - 6) * 12) << "two layers, two matrices, all but heads * k rows";
}

TEST(PeerModel, RecomputedActivationsGiveTheSameGradients) {
  LanguageModel model(peer_spec(), 2), twice(peer_spec(), 2);
  model.train();
  twice.train();
  const auto kept = gradients(model, false), recomputed = gradients(twice, true);
  ASSERT_EQ(kept.size(), recomputed.size());
  for (const auto& [name, gradient] : kept) EXPECT_TRUE(same_bits(recomputed.at(name), gradient)) << name;
  EXPECT_TRUE(same_bits(model.named_buffers()["layers.1.ffn.norm_mean"], twice.named_buffers()["layers.1.ffn.norm_mean"])) << "followed once per step";
}

TEST(PeerModel, SavedAndLoadedItIsTheSameModel) { expect_same_after_saving(peer_spec()); }

TEST(PeerModel, IsOneNetworkAndNoExpertOfALayer) {
  ModelSpec s = mixtral_like_spec();
  s.moe->experts = peer_spec().ffn;
  expect_error(ErrorKind::config, {"peer", "stands as `ffn`"}, [&] { (void)count_parameters(s); });
}

// Pyramid: more experts in later layers, sum over layers of N_l (2 d f + f + d) of networks with offsets.
ModelSpec pyramid(std::vector<int64_t> num_experts) {
  ModelSpec s = mixtral_like_spec();
  s.moe->experts = {"gelu", {{"bias", true}}};
  s.num_layers = static_cast<int64_t>(num_experts.size());
  for (const int64_t n : num_experts) {
    LayerSpec layer;
    layer.kind = "attention+moe";
    layer.moe = {{"num_experts", n}};
    s.pattern.push_back(layer);
  }
  s.moe->losses.clear();
  return s;
}

TEST(PyramidMoe, CountsEachLayerWithItsOwnNumberOfExperts) {
  const std::vector<int64_t> sizes = {2, 2, 3, 8};
  const auto count = count_parameters(pyramid(sizes));
  int64_t experts = 0, routers = 0;
  for (const int64_t n : sizes) experts += n * (2 * 12 * 6 + 6 + 12), routers += n * 12;
  for (const auto& part : count.parts) {
    if (part.name == "experts") { EXPECT_EQ(part.total, experts); }
    if (part.name == "router") { EXPECT_EQ(part.total, routers); }
  }
  EXPECT_EQ(count.total, built_parameters(pyramid(sizes)));
  EXPECT_EQ(count.total, count_parameters(pyramid({8, 3, 2, 2})).total) << "the same size upside down";
  LanguageModel model(pyramid(sizes), 1);
  std::vector<int64_t> built;
  for (const auto& [i, layer] : model.moe_layers()) built.push_back(layer->options().num_experts);
  EXPECT_EQ(built, sizes);
}

// Residual pyramid, the networks of DeepSpeed: a fixed network in every layer, coefficients per token.
TEST(PyramidMoe, GoesWithResidualExperts) {
  ModelSpec s = pyramid({2, 2, 4, 4});
  s.moe->num_shared_experts = 1;
  s.moe->join = "coef_2";
  s.moe->gate = {"top_k", {{"k", 1}, {"renormalise", false}}};
  const auto count = count_parameters(s);
  EXPECT_EQ(count.total, built_parameters(s));
  for (const auto& part : count.parts) {
    if (part.name == "join") { EXPECT_EQ(part.total, 4 * (2 * 12 + 2)); }
    if (part.name == "shared experts") { EXPECT_EQ(part.total, 4 * (2 * 12 * 6 + 6 + 12)); }
  }
  expect_same_after_saving(s);
}

}  // namespace
}  // namespace switchyard::expert_systems_test
