#include "models/block.h"

#include "core/beside.h"
#include "core/gate_input.h"
#include "core/ops.h"
#include "core/sequences.h"
#include "models/initial_weights.h"
#include "models/mixer_of.h"
#include "models/mixtures.h"
#include "switchyard/error.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

std::shared_ptr<MoELayer> make_moe(const ModelSpec& spec, const MoESpec& m, int64_t layer, std::optional<uint64_t> seed) {
  return std::make_shared<MoELayer>(MoEOptions{
      .d_model = spec.d_model,
      .d_expert = m.d_expert,
      .num_experts = m.num_experts,
      .gate = m.gate,
      .experts = m.experts,
      .num_shared_experts = m.num_shared_experts,
      .d_shared = m.d_shared,
      .join = m.join,
      .routed_scale = m.routed_scale,
      .output_bias = m.output_bias,
      .capacity = m.capacity,
      .dispatcher = m.dispatcher,
      .layer = layer,
      .causal = spec.causal && !m.allow_lookahead,
      .init_std = seed ? spec.init_std : 0,
      .init_out_std = seed ? residual_std(spec) : 0,
      .seed = seed.value_or(0),
  });
}

std::shared_ptr<ExpertBank> make_dense(const ModelSpec& spec, const BlockSpec& kind, int64_t d_ff, int64_t layer, std::optional<uint64_t> seed) {
  return expert_registry().make(kind, BankShape{.d_model = spec.d_model,
                                                .d_expert = d_ff,
                                                .num_experts = 1,
                                                .layer = layer,
                                                .init_std = seed ? spec.init_std : 0,
                                                .init_out_std = seed ? residual_std(spec) : 0,
                                                .seed = seed.value_or(0)});
}

}  // namespace

std::vector<torch::Tensor*> BlockTrace::differentiable() {
  auto out = switchyard::differentiable(moe.stats);
  if (mixer.stats)
    for (torch::Tensor* tensor : switchyard::differentiable(*mixer.stats)) out.push_back(tensor);
  for (MixtureStats& mixture : mixtures)
    for (torch::Tensor* tensor : switchyard::differentiable(mixture.stats)) out.push_back(tensor);
  return out;
}

Block::Block(const ModelSpec& spec, int64_t layer, std::optional<uint64_t> seed)
    : layer_(layer), dropout_(spec.dropout), adds_to_norm_(spec.residual == "norm") {
  const LayerPlan plan = spec.layer(layer);
  mixer_sum_ = plan.mixer_sum, network_sum_ = plan.network_sum;
  const bool post = spec.sandwich_norm;
  if (plan.mixer) {
    attn_norm_ = Norm(*this, "attn_norm", spec);
    if (post) attn_post_norm_ = Norm(*this, "attn_post_norm", spec);
    mixer_ = register_module("attn", make_mixer(spec, layer, seed));
  }
  if (plan.d_ff) {
    const std::string name = plan.moe ? "dense" : "ffn";
    dense_norm_ = Norm(*this, name + "_norm", spec);
    if (post) dense_post_norm_ = Norm(*this, name + "_post_norm", spec);
    dense_ = register_module(name, make_dense(spec, plan.ffn, *plan.d_ff, layer, seed));
  }
  if (plan.moe) {
    moe_input_ = plan.moe->input;
    ffn_norm_ = Norm(*this, "ffn_norm", spec);
    if (post) ffn_post_norm_ = Norm(*this, "ffn_post_norm", spec);
    moe_ = register_module("ffn", make_moe(spec, *plan.moe, layer, seed));
  }
  mixtures_ = make_mixtures(spec, layer, seed);
  if (mixtures_) register_module("mixtures", mixtures_);
}

torch::Tensor Block::added(const torch::Tensor& stream, const torch::Tensor& branch, const SumSpec& sum, const Norm& behind, const CallContext& call,
                           const char* where) const {
  auto y = behind.defined() ? behind(branch) : branch;
  if (sum.residual_scale != 1) y = y * sum.residual_scale;
  if (call.training && dropout_ > 0) y = ops::dropout(y, dropout_, call.dropout_stream(where, layer_));
  return (sum.stream_scale != 1 ? stream * sum.stream_scale : stream) + y;
}

// Merged experts are made once per text, from the mean of its prompt, and stay for all that follows (Lory, arXiv:2405.03133
// section 3.3): tokens that come one by one have neither a sequence nor a segment to be averaged over.
torch::Tensor Block::keep_experts(const torch::Tensor& x, const GateInput& input, LayerCache& cache, BlockTrace& trace) {
  const int64_t rows = x.size(0), seq = x.size(1);
  const bool begins = !cache.mix->defined();
  if (begins) {
    const auto y = moe_->forward(x, input, &trace.moe);
    if (cache.length > 0 || !std::holds_alternative<ExpertMix>(trace.moe.routing.choice)) return y;
  }
  auto row = torch::arange(rows, torch::kInt64).repeat_interleave(seq);
  if (input.valid.defined()) row = at::where(input.valid, row, torch::full({}, rows, torch::kInt64));
  if (begins) {
    GateInput prompt = input;  // one token per text: its mean
    prompt.hidden = means_of(on_cpu(x.reshape({rows * seq, -1})), row, rows + 1).slice(0, 0, rows);
    prompt.sequence_ids = torch::arange(rows, torch::kInt64);
    prompt.valid = prompt.token_ids = prompt.positions = prompt.previous_ids = torch::Tensor();
    if (input.tags.defined()) prompt.tags = input.tags.view({rows, seq}).select(1, seq - 1);
    const auto made = moe_->gate().route(prompt);
    const auto& mix = std::get<ExpertMix>(made.choice);
    *cache.mix = mix.weights.index_select(0, mix.group_of);
  }
  return moe_->apply(x, input, {.choice = ExpertMix{*cache.mix, at::where(row < rows, row, torch::full({}, -1, torch::kInt64))}}, &trace.moe);
}

torch::Tensor Block::experts(const torch::Tensor& x, const CallContext& call, LayerCache* cache, BlockTrace& trace) {
  const auto input = gate_input(call, layer_);
  if (cache) return keep_experts(x, input, *cache, trace);
  const auto y = moe_->forward(x, input, &trace.moe);
  if (call.paged && std::holds_alternative<ExpertMix>(trace.moe.routing.choice))
    fail(ErrorKind::unsupported, "a paged cache: experts that are merged once per text (gate '{}') need a cache of one text", moe_->options().gate.kind);
  return y;
}

torch::Tensor Block::dense(const torch::Tensor& x, const CallContext& call, const SiteHook& hook) {
  const auto rows = x.view({-1, x.size(-1)});
  const auto offsets = torch::tensor({int64_t{0}, rows.size(0)}, torch::kInt64);
  RowContext context;
  context.training = call.training;
  context.row_token = torch::arange(rows.size(0), torch::kInt64);
  context.random = call.random.at("layer", static_cast<uint64_t>(layer_));
  context.first_token = call.first_token;
  context.at_site = hook;
  return dense_->forward(rows, offsets, context).view(x.sizes());
}

torch::Tensor Block::read_by_experts(const torch::Tensor& x, const torch::Tensor& stream, const CallContext& call) const {
  return moe_input_ == "stream" ? stream : moe_input_ == "layer" ? x : moe_input_ == "previous_layer" ? call.previous_input : call.previous_mixed;
}

torch::Tensor Block::forward(const torch::Tensor& x, const CallContext& call, LayerCache* cache, BlockTrace& trace) {
  const SiteHook hook = mixtures_ ? mixtures_->hook(gate_input(call, layer_), trace.mixtures) : SiteHook();
  const auto onto = [&](const torch::Tensor& stream, const torch::Tensor& normed) { return adds_to_norm_ ? normed : stream; };
  auto h = x;
  if (mixer_) {
    const auto input = attn_norm_(x);
    h = added(onto(x, input), mixer_->forward(input, call, cache, trace.mixer, hook), mixer_sum_, attn_post_norm_, call, "attn_dropout");
  }
  trace.mixed = h;
  if (dense_) {
    const auto input = dense_norm_(h);
    const auto output = dense(input, call, hook);
    if (!moe_) trace.ffn_input = input, trace.ffn_output = output;
    h = added(onto(h, input), output, network_sum_, dense_post_norm_, call, moe_ ? "dense_dropout" : "ffn_dropout");
  }
  if (!moe_) return h;
  trace.ffn_input = ffn_norm_(read_by_experts(x, h, call));
  trace.ffn_output = experts(trace.ffn_input, call, cache, trace);
  return added(onto(h, trace.ffn_input), trace.ffn_output, network_sum_, ffn_post_norm_, call, "ffn_dropout");
}

}  // namespace switchyard
