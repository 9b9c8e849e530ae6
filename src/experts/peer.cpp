#include "experts/peer.h"

#include "core/ops.h"
#include "core/product_keys.h"
#include "core/table_ops.h"
#include "switchyard/error.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

namespace switchyard {
namespace {

constexpr double kNormEps = 1e-5;

void check(const PeerBank::Options& o, const BankShape& s) {
  const auto wrong = [&](const char* key, int64_t value, const std::string& expected) {
    fail(ErrorKind::config, "experts peer: {} = {} in layers.{}.ffn, expected {}", key, value, s.layer, expected);
  };
  if (s.d_model < 1) fail(ErrorKind::config, "d_model = {} in layers.{}.ffn, expected at least 1", s.d_model, s.layer);
  if (s.num_experts != 1) fail(ErrorKind::config, "experts peer: {} of them in layers.{}.ffn; it is a network of many experts itself and stands as `ffn`", s.num_experts, s.layer);
  if (o.num_keys < 1 || o.num_keys > (1 << 15)) wrong("num_keys", o.num_keys, "1 to 32768");
  if (o.heads < 1) wrong("heads", o.heads, "at least 1");
  if (o.k < 1 || o.k > o.num_keys * o.num_keys) wrong("k", o.k, fmt::format("1 to num_keys^2 = {}", o.num_keys * o.num_keys));
  if (o.d_key < 2 || o.d_key % 2 != 0) wrong("d_key", o.d_key, "an even number");
  if (o.weigh != "softmax" && o.weigh != "sigmoid" && o.weigh != "relu")
    fail(ErrorKind::config, "experts peer: weigh = '{}', expected softmax, sigmoid or relu", o.weigh);
  const std::string known[] = {"relu", "gelu", "gelu_tanh", "silu", "sigmoid", "identity", "relu2"};
  if (std::find(std::begin(known), std::end(known), o.activation) == std::end(known))
    fail(ErrorKind::config, "experts peer: activation = '{}', expected one of {}", o.activation, fmt::join(known, ", "));
  if (!(o.momentum > 0 && o.momentum <= 1)) fail(ErrorKind::config, "experts peer: momentum = {}, expected 0 < momentum <= 1", o.momentum);
}

}  // namespace

PeerBank::PeerBank(const Options& o, const BankShape& s) : options_(o), d_(s.d_model) {
  check(o, s);
  const bool here = s.local() > 0;
  const auto draw = [&](const char* name, std::vector<int64_t> shape, double std) {
    if (!here) shape[0] = 0;
    auto w = torch::zeros(shape);
    // init_std = 0: weights come later.
    if (s.init_std != 0) RandomStream(s.seed).at("peer", static_cast<uint64_t>(s.layer)).at(name).fill_normal(w.data_ptr<float>(), w.numel());
    return register_parameter(name, w.mul_(std));
  };
  const int64_t width = o.heads * o.d_key;
  query_ = draw("query", {width, d_}, 1 / std::sqrt(static_cast<double>(d_)));
  keys_ = draw("keys", {2 * o.heads, o.num_keys, o.d_key / 2}, 1 / std::sqrt(static_cast<double>(o.d_key / 2)));
  u_ = draw("w_in", {num_neurons(), d_}, s.init_std);
  v_ = draw("w_out", {num_neurons(), d_}, s.init_out_std);
  if (!o.query_norm) return;
  norm_weight_ = register_parameter("norm_weight", torch::ones({here ? width : 0}));
  norm_bias_ = register_parameter("norm_bias", torch::zeros({here ? width : 0}));
  mean_ = register_buffer("norm_mean", torch::zeros({here ? width : 0}));
  variance_ = register_buffer("norm_variance", torch::ones({here ? width : 0}));
}

torch::Tensor PeerBank::queries(const torch::Tensor& rows, bool training) {
  const auto q = ops::linear(rows, query_, /*exact=*/true);  // [R, h d_key]
  if (!options_.query_norm) return q;
  const bool batch = training && rows.size(0) > 1;
  const auto mean = batch ? q.mean(0) : mean_.to(q.scalar_type());
  const auto variance = batch ? q.var(0, /*unbiased=*/false) : variance_.to(q.scalar_type());
  if (batch && c10::GradMode::is_enabled()) {  // once per step, also where the pass is made again for its gradients
    const c10::NoGradGuard no_grad;
    const double count = static_cast<double>(rows.size(0));
    mean_.lerp_(mean.detach().to(mean_.scalar_type()), options_.momentum);
    variance_.lerp_(variance.detach().to(mean_.scalar_type()) * (count / (count - 1)), options_.momentum);
  }
  return (q - mean) * at::rsqrt(variance + kNormEps) * norm_weight_ + norm_bias_;
}

torch::Tensor PeerBank::forward(const torch::Tensor& rows, const torch::Tensor&, const RowContext& context) {
  const int64_t count = rows.size(0), heads = options_.heads, n = options_.num_keys, k = options_.k;
  if (count == 0) return rows;
  const auto q = queries(rows, context.training).view({count, 2 * heads, options_.d_key / 2}).transpose(0, 1);
  const auto halves = at::bmm(q, keys_.transpose(1, 2)).view({heads, 2, count, n});
  const auto top = product_top_k(halves.select(1, 0).reshape({heads * count, n}), halves.select(1, 1).reshape({heads * count, n}), k);
  auto weights = options_.weigh == "softmax"   ? at::softmax(top.scores, 1)
                 : options_.weigh == "sigmoid" ? at::sigmoid(top.scores)
                                               : at::relu(top.scores);
  const auto by_row = [&](const torch::Tensor& x) { return x.view({heads, count, k}).transpose(0, 1).reshape({count, heads * k}); };
  weights = by_row(weights);
  const ops::TableReads reads(by_row(top.ids));
  if (observer_) observer_(reads.ids, weights.detach(), context);
  return ops::table_sum(v_, ops::activation(options_.activation, ops::table_dot(rows, u_, reads)) * weights, reads);
}

int64_t PeerBank::parameters_per_expert() const {
  const int64_t width = options_.heads * options_.d_key;
  return width * d_ + options_.num_keys * width + 2 * num_neurons() * d_ + (options_.query_norm ? 2 * width : 0);
}

int64_t PeerBank::active_parameters_per_expert() const {
  return parameters_per_expert() - 2 * (num_neurons() - std::min(num_neurons(), options_.heads * options_.k)) * d_;
}

double PeerBank::flops_per_row() const {
  const double width = static_cast<double>(options_.heads * options_.d_key), reads = static_cast<double>(options_.heads * options_.k);
  const double half = static_cast<double>(std::min(options_.k, options_.num_keys));
  return 2 * width * static_cast<double>(d_) + 2 * static_cast<double>(options_.num_keys) * width + static_cast<double>(options_.heads) * half * half +
         4 * reads * static_cast<double>(d_);
}

ExpertEntry expert_peer() { return plug_in<PeerBank, ExpertEntry>("peer", "arXiv:2407.04153", "n^2 single neurons, a few looked up by product keys"); }

}  // namespace switchyard
