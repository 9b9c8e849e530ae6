#include "models/slice_network.h"

#include "kernels/balanced_assignment.h"
#include "switchyard/error.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <numeric>

namespace switchyard {
namespace {

void check_division(int64_t neurons, int64_t num_experts) {
  if (num_experts < 1 || neurons % num_experts != 0)
    fail(ErrorKind::config, "slice: {} neurons do not divide over num_experts = {}", neurons, num_experts);
}

std::vector<int64_t> random_order(int64_t count, const RandomStream& random) {
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  for (int64_t i = count - 1; i > 0; --i) std::swap(order[static_cast<size_t>(i)], order[random.below(static_cast<uint64_t>(i), static_cast<uint64_t>(i) + 1)]);
  return order;
}

NeuronSets sets_of(const std::vector<int64_t>& expert_of, int64_t num_experts) {
  NeuronSets out(static_cast<size_t>(num_experts));
  for (size_t n = 0; n < expert_of.size(); ++n) out[static_cast<size_t>(expert_of[n])].push_back(static_cast<int64_t>(n));
  return out;
}

// Rows of w [1, f, 2f or more, d] that belong to a set: the same of every linear.
torch::Tensor rows_of(const std::vector<int64_t>& set, int64_t neurons, int64_t rows) {
  const auto one = torch::tensor(set, torch::kInt64);
  return (torch::arange(rows / neurons, torch::kInt64).unsqueeze(1) * neurons + one).view({-1});
}

}  // namespace

NeuronSets random_sets(int64_t neurons, int64_t num_experts, const RandomStream& random) {
  check_division(neurons, num_experts);
  const auto order = random_order(neurons, random);
  const int64_t size = neurons / num_experts;
  NeuronSets out;
  for (int64_t e = 0; e < num_experts; ++e) {
    auto& set = out.emplace_back(order.begin() + e * size, order.begin() + (e + 1) * size);
    std::sort(set.begin(), set.end());
  }
  return out;
}

NeuronSets balanced_clusters(const torch::Tensor& features_in, int64_t num_experts, const RandomStream& random, int64_t rounds) {
  const c10::NoGradGuard no_grad;
  const auto features = features_in.to(torch::kFloat32);
  const int64_t neurons = features.size(0);
  check_division(neurons, num_experts);
  auto first = random_order(neurons, random);
  first.resize(static_cast<size_t>(num_experts));
  auto centres = features.index_select(0, torch::tensor(first, torch::kInt64));
  std::vector<int64_t> expert_of;
  for (int64_t round = 0; round < rounds; ++round) {
    // -|x - c|^2 up to |x|^2, which is the same for every cluster.
    const auto affinity = (2 * at::matmul(features, centres.t()) - centres.square().sum(1)).contiguous();
    auto now = kernels::assign_exactly({.affinity = {affinity.data_ptr<float>(), static_cast<size_t>(affinity.numel())}, .tokens = neurons, .experts = num_experts,
                                        .capacity = neurons / num_experts});
    if (now == expert_of) break;
    expert_of = std::move(now);
    centres = torch::zeros_like(centres).index_add_(0, torch::tensor(expert_of, torch::kInt64), features) * (static_cast<double>(num_experts) / static_cast<double>(neurons));
  }
  return sets_of(expert_of, num_experts);
}

ModelSpec sliced_spec(const ModelSpec& dense, const SliceOptions& o) {
  ModelSpec s = dense.resolved();
  if (s.moe || !s.pattern.empty() || !s.mixtures.empty())
    fail(ErrorKind::unsupported, "slice: the model has {}; expected one whose layers are all attention and a dense network",
         s.moe ? "experts" : !s.pattern.empty() ? "a pattern" : "mixtures");
  for (const char* key : {"bias", "interleaved"})
    if (const ConfigNode* node = s.ffn.options.find(key); node && std::get_if<bool>(&node->value) && std::get<bool>(node->value))
      fail(ErrorKind::unsupported, "slice: model.ffn has {} = true; expected networks without offsets whose gate rows come first", key);
  check_division(s.d_ff, o.num_experts);
  if (o.top_k < 1 || o.top_k > o.num_experts) fail(ErrorKind::config, "slice: top_k = {}, expected 1 to num_experts = {}", o.top_k, o.num_experts);
  MoESpec& m = s.moe.emplace();
  m.num_experts = o.num_experts;
  m.d_expert = s.d_ff / o.num_experts;
  m.experts = s.ffn;
  m.routed_scale = o.scale > 0 ? o.scale : static_cast<double>(o.num_experts) / static_cast<double>(o.top_k);
  m.gate = {"chain", {{"score", {{"kind", "mlp"}, {"hidden", o.num_experts}, {"activation", "tanh"}, {"bias", false}}},
                      {"noise", "learned_gaussian"},
                      {"select", {{"kind", "top_k"}, {"k", o.top_k}}},
                      {"weigh", "softmax_chosen"}}};
  if (o.top_k == 1) *m.gate.options.find("weigh") = "raw";  // a softmax over one is 1 and trains nothing
  m.losses = {{"importance", {{"weight", 0.01}, {"unbiased", true}}}, {"load", {{"weight", 0.01}, {"unbiased", true}}}};
  return s.resolved();
}

std::shared_ptr<LanguageModel> slice_networks(LanguageModel& dense, const SliceOptions& options, const std::vector<NeuronSets>& sets) {
  const c10::NoGradGuard no_grad;
  const ModelSpec spec = sliced_spec(dense.spec(), options);
  if (static_cast<int64_t>(sets.size()) != spec.num_layers) fail(ErrorKind::usage, "slice: sets for {} layers, the model has {}", sets.size(), spec.num_layers);
  auto out = std::make_shared<LanguageModel>(spec, options.seed);
  auto to = out->named_parameters();
  for (const auto& item : dense.named_parameters())
    if (item.key().find(".ffn.") == std::string::npos) to[item.key()].copy_(item.value());
  const auto from = dense.named_parameters();
  for (int64_t i = 0; i < spec.num_layers; ++i) {
    const std::string layer = "layers." + std::to_string(i) + ".ffn.";
    const auto *w_in = from.find(layer + "w_in"), *w_out = from.find(layer + "w_out");
    if (!w_in || !w_out) fail(ErrorKind::unsupported, "slice: the network of layer {} ('{}') is not made of the matrices w_in and w_out", i, spec.ffn.kind);
    for (size_t e = 0; e < sets[static_cast<size_t>(i)].size(); ++e) {
      const auto& set = sets[static_cast<size_t>(i)][e];
      to[layer + "experts.w_in"][static_cast<int64_t>(e)].copy_(w_in->squeeze(0).index_select(0, rows_of(set, spec.d_ff, w_in->size(1))));
      to[layer + "experts.w_out"][static_cast<int64_t>(e)].copy_(w_out->squeeze(0).index_select(1, torch::tensor(set, torch::kInt64)));
    }
  }
  return out;
}

DenseNetwork joined_slices(const torch::Tensor& w_in, const torch::Tensor& w_out, const NeuronSets& sets) {
  const c10::NoGradGuard no_grad;
  const int64_t width = w_out.size(2), neurons = width * w_out.size(0), d = w_in.size(2);
  DenseNetwork out{torch::empty({1, w_in.size(1) / width * neurons, d}, w_in.options()), torch::empty({1, w_out.size(1), neurons}, w_out.options())};
  for (size_t e = 0; e < sets.size(); ++e) {
    out.w_in[0].index_copy_(0, rows_of(sets[e], neurons, out.w_in.size(1)), w_in[static_cast<int64_t>(e)]);
    out.w_out[0].index_copy_(1, torch::tensor(sets[e], torch::kInt64), w_out[static_cast<int64_t>(e)]);
  }
  return out;
}

ModelSpec joined_spec(const ModelSpec& sliced) {
  ModelSpec s = sliced.resolved();
  std::optional<int64_t> width;
  for (int64_t i = 0; i < s.num_layers; ++i) {
    const LayerPlan plan = s.layer(i);
    if (!plan.mixer || plan.d_ff || !plan.moe || plan.moe->num_shared_experts > 0 || plan.moe->output_bias || !s.mixtures.empty())
      fail(ErrorKind::unsupported, "join: layer {} is not attention and experts alone", i);
    const int64_t here = plan.moe->num_experts * plan.moe->d_expert;
    if (width.value_or(here) != here)
      fail(ErrorKind::unsupported, "join: the experts of layer {} have {} neurons together, those of layer 0 {}; expected one width", i, here, *width);
    width = here;
  }
  s.ffn = s.moe->experts;
  s.d_ff = *width;
  s.moe.reset();
  s.pattern.clear();
  return s.resolved();
}

std::shared_ptr<LanguageModel> join_networks(LanguageModel& sliced) {
  const c10::NoGradGuard no_grad;
  auto out = std::make_shared<LanguageModel>(joined_spec(sliced.spec()), std::nullopt);
  auto to = out->named_parameters();
  const auto from = sliced.named_parameters();
  for (const auto& item : from)
    if (item.key().find(".ffn.") == std::string::npos) to[item.key()].copy_(item.value());
  for (int64_t i = 0; i < out->spec().num_layers; ++i) {
    const std::string layer = "layers." + std::to_string(i) + ".ffn.";
    const auto *w_in = from.find(layer + "experts.w_in"), *w_out = from.find(layer + "experts.w_out");
    if (!w_in || !w_out) fail(ErrorKind::unsupported, "join: the experts of layer {} ('{}') are not made of the matrices w_in and w_out", i, out->spec().ffn.kind);
    NeuronSets in_order(static_cast<size_t>(w_out->size(0)), std::vector<int64_t>(static_cast<size_t>(w_out->size(2))));
    for (int64_t n = 0; n < out->spec().d_ff; ++n) in_order[static_cast<size_t>(n / w_out->size(2))][static_cast<size_t>(n % w_out->size(2))] = n;
    const DenseNetwork dense = joined_slices(*w_in, *w_out, in_order);
    to[layer + "w_in"].copy_(dense.w_in);
    to[layer + "w_out"].copy_(dense.w_out);
  }
  return out;
}

}  // namespace switchyard
