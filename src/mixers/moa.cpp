// Attention whose query heads are experts: a gate chooses k groups of G heads for every token; keys and values are shared by all.
//
//   for each chosen expert e:   q_e = x W_q[e]^T  (G heads)     o_e = attention(q_e, K, V) W_o[e]^T      y = sum_e w_e o_e + b
//
// The cache holds G key and value heads, however many experts there are. Losses and statistics of the gate join those of the
// feed-forward experts.
//   MoA, arXiv:2210.05144                one head per expert, no bias
//   ModuleFormer, arXiv:2306.04640       attention = "stick_breaking", several heads per module
//   JetMoE, arXiv:2404.07413             G heads per expert, a bias behind the sum
#include "core/beside.h"
#include "core/drop_padding.h"
#include "core/gate_input.h"
#include "core/ops.h"
#include "core/rotate_heads.h"
#include "switchyard/dispatch_plan.h"
#include "switchyard/error.h"
#include "switchyard/gate.h"
#include "switchyard/mixer.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

class MixtureOfAttentionHeads final : public Mixer {
 public:
  struct Options {
    int64_t num_experts = 8;
    BlockSpec gate = {"top_k", {{"k", 2}}};
    std::string attention = "softmax";
    bool bias = false;
    template <class V> void fields(V&& v) {
      v("num_experts", num_experts, "experts, each with num_kv_heads query heads and an output matrix");
      v("gate", gate, "who goes where: a gate of token choice");
      v("attention", attention, "softmax, or stick_breaking");
      v("bias", bias, "the output has a bias");
    }
  };

  MixtureOfAttentionHeads(const Options& o, const MixerShape& s) : o_(o), s_(s) {
    if (o.num_experts < 1) fail(ErrorKind::config, "mixer moa: num_experts = {}, expected at least 1", o.num_experts);
    if (o.attention != "softmax" && o.attention != "stick_breaking") fail(ErrorKind::config, "mixer moa: attention = '{}', expected softmax or stick_breaking", o.attention);
    const int64_t d = s.d_model, heads = s.num_kv_heads * s.head_dim;
    gate_ = register_module("gate", gate_registry().make(o.gate, GateShape{.d_model = d, .num_experts = o.num_experts, .layer = s.layer, .seed = RandomStream(s.seed.value_or(0)).at("moa").bits(0)}));
    if (gate_->experts_per_token() > static_cast<double>(o.num_experts))
      fail(ErrorKind::config, "mixer moa: gate '{}' asks for {} experts per token, more than num_experts = {}", o.gate.kind, gate_->experts_per_token(), o.num_experts);
    if (s.causal && gate_->looks_ahead()) fail(ErrorKind::config, "mixer moa: gate '{}' routes a token by later tokens, and the model is causal", o.gate.kind);
    q_proj_ = register_parameter("q_proj", s.weight("q_proj", {o.num_experts, heads, d}, s.init_std));
    o_proj_ = register_parameter("o_proj", s.weight("o_proj", {o.num_experts, d, heads}, s.init_out_std));
    kv_proj_ = register_parameter("kv_proj", s.weight("kv_proj", {2 * heads, d}, s.init_std));
    if (o.bias) bias_ = register_parameter("bias", s.constant({d}, 0));
  }

  torch::Tensor forward(const torch::Tensor& x, const CallContext& call, LayerCache* cache, MixerTrace& trace, const SiteHook&) override {
    const int64_t batch = x.size(0), seq = x.size(1), width = s_.num_kv_heads * s_.head_dim;
    auto input = gate_input(call, s_.layer);
    const auto tokens = x.reshape({batch * seq, -1});
    input.hidden = on_cpu(tokens);  // where routers live
    input.random = input.random.at("moa");
    const auto [routing, plan] = routed(input);
    const auto& choice = std::get<TokenChoice>(routing.choice);
    const int64_t k = choice.expert_ids.size(1);
    const auto heads = [&](const torch::Tensor& t) { return t.reshape({batch, seq, s_.num_kv_heads, s_.head_dim}); };
    const auto kv = ops::linear(x, kv_proj_).split(width, -1);
    auto key = rotate_heads(heads(kv[0]), call, 0, rotary_dims(), s_.adjacent_pairs), value = heads(kv[1]).contiguous();
    if (cache) key = append(cache->state[0], cache->length, key), value = append(cache->state[1], cache->length, value);

    // Query heads in the order (key head, slot): those that share a key head stand side by side.
    const auto rows = ops::grouped_linear(ops::gather_rows(tokens, plan), plan.offsets, q_proj_);
    const auto pair = beside(x, plan.row_of_pair);
    auto q = rows.size(0) > 0 ? rows.index_select(0, pair.clamp_min(0)).masked_fill((pair < 0).unsqueeze(1), 0) : torch::zeros({pair.size(0), width}, x.options());
    q = q.view({batch, seq, k, s_.num_kv_heads, s_.head_dim}).transpose(2, 3).reshape({batch, seq, s_.num_kv_heads * k, s_.head_dim});
    const auto seen = ops::attention(rotate_heads(q, call, 0, rotary_dims(), s_.adjacent_pairs), key, value, call.q_segments, call.k_segments,
                                     {.causal = s_.causal, .sinks = {}, .bias = {}, .stick_breaking = o_.attention == "stick_breaking"});
    const auto by_pair = seen.view({batch, seq, s_.num_kv_heads, k, s_.head_dim}).transpose(2, 3).reshape({batch * seq * k, width});
    const auto out = ops::grouped_linear(by_pair.index_select(0, beside(x, plan.row_weight_index)), plan.offsets, o_proj_);
    const auto y = ops::combine_rows(out, choice.weights, plan).view({batch, seq, -1});
    trace.stats = routing_stats(routing, plan.kept, input, s_.layer, o_.num_experts);
    trace.routing = routing;
    return bias_.defined() ? y + bias_ : y;
  }

  std::vector<torch::Tensor> new_state(int64_t batch, int64_t capacity) const override {
    const auto room = torch::empty({batch, capacity, s_.num_kv_heads, s_.head_dim});
    return {room, torch::empty_like(room)};
  }
  double flops_per_token(double keys) const override {
    const auto width = static_cast<double>(s_.num_kv_heads * s_.head_dim), d = static_cast<double>(s_.d_model), k = gate_->experts_per_token();
    return 2.0 * static_cast<double>(gate_->num_parameters()) + 4.0 * width * d + k * (4.0 * width * d + 4.0 * width * keys);
  }
  int64_t active_parameters() const override {
    const int64_t one = 2 * s_.d_model * s_.num_kv_heads * s_.head_dim;
    return num_parameters() - o_.num_experts * one + static_cast<int64_t>(gate_->experts_per_token() * static_cast<double>(one));
  }
  int64_t rotary_dims() const override { return !s_.rotary || o_.attention == "stick_breaking" ? 0 : s_.rotary_dims > 0 ? s_.rotary_dims : s_.head_dim; }

 private:
  [[nodiscard]] Planned routed(const GateInput& input) {
    auto routing = gate_->route(input);
    auto* choice = std::get_if<TokenChoice>(&routing.choice);
    if (!choice) fail(ErrorKind::config, "mixer moa: gate '{}' does not let tokens choose experts", o_.gate.kind);
    drop_padding(*choice, input.valid);
    return plan_dispatch(std::move(routing), input, o_.num_experts, {}, nullptr);
  }

  Options o_;
  MixerShape s_;
  std::shared_ptr<Gate> gate_;
  torch::Tensor q_proj_, o_proj_, kv_proj_, bias_;  // [E, G c, d], [E, d, G c], [2 G c, d], [d]
};

}  // namespace

MixerEntry mixer_moa() { return plug_in<MixtureOfAttentionHeads, MixerEntry>("moa", "arXiv:2210.05144", "query heads are experts, keys and values are shared"); }

}  // namespace switchyard
