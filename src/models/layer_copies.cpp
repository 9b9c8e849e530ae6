#include "models/layer_copies.h"

#include "core/beside.h"
#include "core/gate_input.h"
#include "switchyard/error.h"

#include <ATen/ATen.h>

namespace switchyard {

ModelSpec spec_of_copy(const ModelSpec& spec) {
  ModelSpec out = spec;
  out.ffn = spec.moe->experts;
  out.d_ff = spec.moe->d_expert;
  out.moe.reset();
  return out;
}

LayerCopies::LayerCopies(const ModelSpec& spec, int64_t layer, std::optional<uint64_t> seed) {
  const MoESpec& m = *spec.moe;
  bank_ = std::make_shared<CopiesBank>(spec_of_copy(spec), layer, m.num_experts, seed);
  moe_ = register_module("copies", std::make_shared<MoELayer>(MoEOptions{.d_model = spec.d_model,
                                                                         .d_expert = m.d_expert,
                                                                         .num_experts = m.num_experts,
                                                                         .gate = m.gate,
                                                                         .experts = m.experts,
                                                                         .layer = layer,
                                                                         .causal = spec.causal && !m.allow_lookahead,
                                                                         .seed = seed.value_or(0)},
                                                              bank_));
}

torch::Tensor LayerCopies::forward(const torch::Tensor& x, const CallContext& call, LayerCache* cache, BlockTrace& trace) {
  const CopiesBank::Batch batch(*bank_, call, cache);
  auto input = gate_input(call, layer());
  input.hidden = on_cpu(x.reshape({-1, x.size(-1)}));
  auto routing = cache ? kept_route(input, x.size(0), *cache) : moe_->gate().route(input);
  trace.ffn_input = x;
  return trace.ffn_output = moe_->apply(x, input, std::move(routing), &trace.moe);
}

// The route of each text [B, E] is made at its first token and stays in the cache.
Routing LayerCopies::kept_route(const GateInput& input, int64_t rows, LayerCache& cache) {
  Routing routing;
  if (!cache.mix->defined()) {
    routing = moe_->gate().route(input);
    const auto* choice = std::get_if<TokenChoice>(&routing.choice);
    if (!choice || choice->expert_ids.size(1) != 1)
      fail(ErrorKind::unsupported, "layers.{}: a cache holds the keys of one copy per text, and gate '{}' sends tokens to several; evaluate without a cache",
           layer(), moe_->options().gate.kind);
    auto ids = choice->expert_ids.view({rows, -1});
    if (input.valid.defined()) ids = ids.masked_fill(~input.valid.view({rows, -1}), -1);
    const auto copy = std::get<0>(ids.max(1, /*keepdim=*/true));
    if ((ids != copy).logical_and(ids >= 0).any().item<bool>())
      fail(ErrorKind::usage, "layers.{}: the tokens of one text chose several copies; a cache holds one text per row, with one tag", layer());
    const auto weight = std::get<0>(choice->weights.view({rows, -1}).max(1, /*keepdim=*/true));
    *cache.mix = torch::zeros({rows, moe_->options().num_experts}).scatter_(1, copy.clamp_min(0), weight.to(torch::kFloat32));
  }
  const auto [weight, copy] = cache.mix->max(1, /*keepdim=*/true);  // [B, 1]
  const int64_t seq = input.hidden.size(0) / rows;
  routing.choice = TokenChoice{copy.repeat_interleave(seq, 0), weight.repeat_interleave(seq, 0)};
  return routing;
}

std::shared_ptr<StackLayer> make_stack_layer(const ModelSpec& spec, int64_t layer, std::optional<uint64_t> seed) {
  if (spec.is_moe_layer(layer) && spec.moe->site == "layer") return std::make_shared<LayerCopies>(spec, layer, seed);
  return std::make_shared<Block>(spec, layer, seed);
}

}  // namespace switchyard
