// HyperMoE: a small network made for each token from the experts that it did NOT choose, added to the routed sum:
//
//   p = MLP(sum over i not chosen of e_i)          e_i in R^n, one per expert and layer;  MLP: n -> h, ReLU, h -> h
//   q = relu([p; l] W^T + b)                       l in R^m: the layer
//   y = routed (+ shared) + relu(x D^T + b_D) U^T + b_U        D = q H_D [b, d], U = q H_U [d, b], b_D = q H_bD, b_U = q H_bU
//
// MLP, W, b and the heads H are one hypernetwork for all layers; a checkpoint holds it under the name of each of them. The heads begin
// uniform on +-scale sqrt(3 / (h fan)), fan = d for D and b for U, their own sums at 0. Tokens with the same set of chosen experts have
// the same network, which is made once per call: with one choice per token there are at most as many as experts. Chosen means by the
// gate, whether or not capacity then dropped it.
// Source: HyperMoE, arXiv:2402.12656 section 3, and its released code.
#include "core/beside.h"
#include "core/ops.h"
#include "switchyard/error.h"
#include "switchyard/join.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <cmath>

namespace switchyard {
namespace {

struct HyperOptions {
  int64_t embedding = 128, hidden = 128, layer_embedding = 10, bottleneck = 64;
  double head_scale = 1e-3;
  template <class V> void fields(V&& v) {
    v("embedding", embedding, "n: width of the embedding of an expert");
    v("hidden", hidden, "h: width inside the hypernetwork");
    v("layer_embedding", layer_embedding, "m: width of the embedding of a layer");
    v("bottleneck", bottleneck, "b: inner width of the network that is made");
    v("head_scale", head_scale, "of the initial heads; 0 = the layer begins as without it");
  }
};

// What all layers share.
class Hypernetwork final : public torch::nn::Module {
 public:
  // One network per row of q: D [G, b, d], U [G, d, b], b_D [G, b], b_U [G, d].
  struct Made {
    torch::Tensor down, up, down_bias, up_bias;
  };

  Hypernetwork(const HyperOptions& o, const GateShape& s) : d_(s.d_model), b_(o.bottleneck) {
    const RandomStream random = RandomStream(s.seed).at("hypernetwork");
    const auto uniform = [&](const char* name, int64_t rows, int64_t cols, double bound) {
      auto w = torch::empty({rows, cols});
      random.at(name).fill_uniform(w.data_ptr<float>(), w.numel());
      return register_parameter(name, w.mul_(2 * bound).sub_(bound));
    };
    const auto zeros = [&](const char* name, int64_t size) { return register_parameter(name, torch::zeros({size})); };
    const auto plain = [](int64_t fan) { return 1 / std::sqrt(static_cast<double>(fan)); };
    const auto head = [&](int64_t fan) { return o.head_scale * std::sqrt(3.0 / (static_cast<double>(o.hidden) * static_cast<double>(fan))); };
    process_1_ = uniform("process_1", o.hidden, o.embedding, plain(o.embedding));
    process_1_bias_ = zeros("process_1_bias", o.hidden);
    process_2_ = uniform("process_2", o.hidden, o.hidden, plain(o.hidden));
    process_2_bias_ = zeros("process_2_bias", o.hidden);
    input_ = uniform("input", o.hidden, o.hidden + o.layer_embedding, plain(o.hidden + o.layer_embedding));
    input_bias_ = zeros("input_bias", o.hidden);
    down_ = uniform("down", b_ * d_, o.hidden, head(d_));
    up_ = uniform("up", d_ * b_, o.hidden, head(b_));
    down_bias_ = register_parameter("down_bias", torch::zeros({b_, o.hidden}));
    up_bias_ = register_parameter("up_bias", torch::zeros({d_, o.hidden}));
  }

  // unselected [G, n]: sums of embeddings; layer [m].
  [[nodiscard]] Made make(const torch::Tensor& unselected, const torch::Tensor& layer) const {
    const auto inner = at::relu(ops::linear(unselected, process_1_, true) + process_1_bias_);
    const auto p = ops::linear(inner, process_2_, true) + process_2_bias_;
    const int64_t sets = p.size(0);
    const auto z = at::cat({p, layer.unsqueeze(0).expand({sets, -1})}, 1);
    const auto q = at::relu(ops::linear(z, input_, true) + input_bias_);
    return {ops::linear(q, down_).view({sets, b_, d_}), ops::linear(q, up_).view({sets, d_, b_}), ops::linear(q, down_bias_), ops::linear(q, up_bias_)};
  }

 private:
  int64_t d_, b_;
  torch::Tensor process_1_, process_1_bias_, process_2_, process_2_bias_, input_, input_bias_, down_, up_, down_bias_, up_bias_;
};

class Hyper final : public Join {
 public:
  using Options = HyperOptions;

  Hyper(const Options& o, const GateShape& s) : num_experts_(s.num_experts) {
    for (const auto& [key, value] : {std::pair{"embedding", o.embedding}, {"hidden", o.hidden}, {"layer_embedding", o.layer_embedding}, {"bottleneck", o.bottleneck}})
      if (value < 1 || value > (1 << 20)) fail(ErrorKind::config, "join hyper: {} = {}, expected 1 to {}", key, value, 1 << 20);
    if (!(o.head_scale >= 0)) fail(ErrorKind::config, "join hyper: head_scale = {}, expected 0 or more", o.head_scale);
    const RandomStream random = RandomStream(s.seed).at("hyper_join", static_cast<uint64_t>(s.layer));
    const auto normal = [&](const char* name, std::vector<int64_t> shape) {
      auto w = torch::empty(shape);
      random.at(name).fill_normal(w.data_ptr<float>(), w.numel());
      return register_parameter(name, w);
    };
    embeddings_ = normal("embeddings", {s.num_experts, o.embedding});
    layer_ = normal("layer", {o.layer_embedding});
    network_ = register_module("network", std::make_shared<Hypernetwork>(o, s));
  }

  bool needs_shared() const override { return false; }

  void share(Join& first) override {
    auto* other = dynamic_cast<Hyper*>(&first);
    if (!other) return;
    const auto mine = network_->parameters(), theirs = other->network_->parameters();
    for (size_t i = 0; i < mine.size(); ++i)
      if (mine[i].sizes() != theirs[i].sizes())
        fail(ErrorKind::config, "join hyper: its hypernetwork is shared by all layers, but their options differ: [{}] and [{}]", fmt::join(theirs[i].sizes(), ", "),
             fmt::join(mine[i].sizes(), ", "));
    network_ = replace_module("network", other->network_);
  }

  int64_t common_parameters() const override {
    int64_t out = 0;
    for (const auto& p : network_->parameters()) out += p.numel();
    return out;
  }

  torch::Tensor join(const torch::Tensor&, const torch::Tensor&, const GateInput&, std::map<std::string, torch::Tensor>&) override {
    fail(ErrorKind::unsupported, "join hyper needs to know who was chosen");
  }

  torch::Tensor join_chosen(const torch::Tensor& routed, const torch::Tensor& shared, const GateInput& in, const Routing& routing,
                            std::map<std::string, torch::Tensor>&) override {
    const auto* choice = std::get_if<TokenChoice>(&routing.choice);
    if (!choice) fail(ErrorKind::unsupported, "join hyper asks which experts each token did not choose; expected a gate by which tokens choose experts");
    const auto y = shared.defined() ? routed + shared : routed;
    if (in.hidden.size(0) == 0) return y;
    auto made = generated(in.hidden, choice->expert_ids);
    if (in.valid.defined()) made = made * in.valid.unsqueeze(1).to(made.scalar_type());
    return y + made;
  }

 private:
  // x [T, d], ids [T, k] -> [T, d]: each token through the network of its set.
  [[nodiscard]] torch::Tensor generated(const torch::Tensor& x, const torch::Tensor& ids) const {
    const auto [sets, set_of, counts] = at::unique_dim(std::get<0>(ids.sort(1)), 0, /*sorted=*/true, /*return_inverse=*/true, /*return_counts=*/true);
    const auto chosen = torch::zeros({sets.size(0), num_experts_ + 1}, torch::kBool).scatter_(1, sets + 1, true).slice(1, 1);  // place 0: no expert
    const auto unselected = at::matmul((~chosen).to(embeddings_.device(), embeddings_.scalar_type()), embeddings_);
    const auto made = network_->make(unselected, layer_);
    const auto by_set = at::argsort(set_of, /*stable=*/true, /*dim=*/0, /*descending=*/false);
    const auto offsets = at::cat({torch::zeros({1}, torch::kInt64), counts.cumsum(0)});
    const auto order = beside(x, by_set), set = beside(x, set_of.index_select(0, by_set));
    const auto inner = at::relu(ops::grouped_linear(x.index_select(0, order), offsets, made.down) + made.down_bias.index_select(0, set));
    const auto out = ops::grouped_linear(inner, offsets, made.up) + made.up_bias.index_select(0, set);
    return torch::zeros_like(out).index_copy(0, order, out);
  }

  int64_t num_experts_;
  torch::Tensor embeddings_, layer_;  // [E, n], [m]
  std::shared_ptr<Hypernetwork> network_;
};

}  // namespace

JoinEntry join_hyper() {
  return plug_in<Hyper, JoinEntry>("hyper", "arXiv:2402.12656", "adds a network that is made from the experts a token did not choose");
}

}  // namespace switchyard
