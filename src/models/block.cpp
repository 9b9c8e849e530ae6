#include "models/block.h"

#include "core/ops.h"
#include "core/sequences.h"
#include "models/gate_input.h"
#include "models/initial_weights.h"
#include "models/mixtures.h"

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
      .join = m.join,
      .routed_scale = m.routed_scale,
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
  for (MixtureStats& mixture : mixtures)
    for (torch::Tensor* tensor : switchyard::differentiable(mixture.stats)) out.push_back(tensor);
  return out;
}

Block::Block(const ModelSpec& spec, int64_t layer, std::optional<uint64_t> seed) : layer_(layer), norm_eps_(spec.norm_eps), dropout_(spec.dropout) {
  std::optional<RandomStream> init;
  if (seed) init = RandomStream(*seed, "init").at("layer", static_cast<uint64_t>(layer));
  const LayerPlan plan = spec.layer(layer);
  if (plan.attention) {
    attn_norm_ = register_parameter("attn_norm", torch::ones({spec.d_model}));
    attn_ = register_module("attn", std::make_shared<Attention>(spec, init ? &*init : nullptr));
  }
  if (plan.moe || plan.d_ff) ffn_norm_ = register_parameter("ffn_norm", torch::ones({spec.d_model}));
  if (plan.moe) moe_ = register_module("ffn", make_moe(spec, *plan.moe, layer, seed));
  else if (plan.d_ff) dense_ = register_module("ffn", make_dense(spec, plan.ffn, *plan.d_ff, layer, seed));
  mixtures_ = make_mixtures(spec, layer, seed);
  if (mixtures_) register_module("mixtures", mixtures_);
}

torch::Tensor Block::dropped(const torch::Tensor& branch, const CallContext& call, const char* where) const {
  if (!call.training || dropout_ == 0) return branch;
  return ops::dropout(branch, dropout_, call.dropout_stream(where, layer_));
}

// Merged experts are made once per text, from the mean of its prompt, and stay for all that follows (Lory, arXiv:2405.03133
// section 3.3): tokens that come one by one have neither a sequence nor a segment to be averaged over.
torch::Tensor Block::keep_experts(const torch::Tensor& x, const GateInput& input, LayerCache& cache, BlockTrace& trace) {
  const int64_t rows = x.size(0), seq = x.size(1);
  auto row = torch::arange(rows, torch::kInt64).repeat_interleave(seq);
  if (input.valid.defined()) row = at::where(input.valid, row, torch::full({}, rows, torch::kInt64));
  if (!cache.mix->defined()) {
    const auto y = moe_->forward(x, input, &trace.moe);
    if (cache.length > 0 || !std::holds_alternative<ExpertMix>(trace.moe.routing.choice)) return y;
    GateInput prompt = input;  // one token per text: its mean
    prompt.hidden = means_of(x.reshape({rows * seq, -1}), row, rows + 1).slice(0, 0, rows);
    prompt.sequence_ids = torch::arange(rows, torch::kInt64);
    prompt.valid = prompt.token_ids = prompt.positions = prompt.previous_ids = torch::Tensor();
    if (input.tags.defined()) prompt.tags = input.tags.view({rows, seq}).select(1, seq - 1);
    const auto made = moe_->gate().route(prompt);
    const auto& mix = std::get<ExpertMix>(made.choice);
    *cache.mix = mix.weights.index_select(0, mix.group_of);
  }
  return moe_->apply(x, input, {.choice = ExpertMix{*cache.mix, at::where(row < rows, row, torch::full({}, -1, torch::kInt64))}}, &trace.moe);
}

torch::Tensor Block::feed_forward(const torch::Tensor& x, const CallContext& call, LayerCache* cache, BlockTrace& trace, const SiteHook& hook) {
  if (moe_) {
    const auto input = gate_input(call, layer_);
    return cache ? keep_experts(x, input, *cache, trace) : moe_->forward(x, input, &trace.moe);
  }
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

torch::Tensor Block::forward(const torch::Tensor& x, const CallContext& call, LayerCache* cache, BlockTrace& trace) {
  const SiteHook hook = mixtures_ ? mixtures_->hook(gate_input(call, layer_), trace.mixtures) : SiteHook();
  auto h = x;
  if (attn_) h = x + dropped(attn_->forward(ops::rms_norm(x, attn_norm_, norm_eps_), call, cache, hook), call, "attn_dropout");
  if (!moe_ && !dense_) return h;
  trace.ffn_input = ops::rms_norm(h, ffn_norm_, norm_eps_);
  trace.ffn_output = feed_forward(trace.ffn_input, call, cache, trace, hook);
  return h + dropped(trace.ffn_output, call, "ffn_dropout");
}

}  // namespace switchyard
