#include "eval/routing_record.h"

#include "core/registries.h"
#include "data/batches.h"
#include "eval/batch_tensors.h"
#include "models/eval_mode.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

// What the layer kept, or what it would keep with another capacity.
torch::Tensor kept_pairs(const MoETrace& trace, const MoELayer& layer, const data::Batch& batch, double factor) {
  if (factor == 0) return trace.plan.kept;
  CapacityOptions capacity = layer.options().capacity;
  capacity.factor = capacity.eval_factor = factor;
  capacity.rows = capacity.eval_rows = 0;
  capacity.overflow = "drop";
  GateInput input;
  input.hidden = torch::zeros({batch.batch * batch.seq, 1});
  return plan_dispatch(trace.routing, input, layer.options().num_experts, capacity, priority_registry().make(capacity.priority).get()).plan.kept;
}

void append(const MoETrace& trace, const MoELayer& layer, const data::Batch& batch, double factor, RoutingRecord& record) {
  const auto* choice = std::get_if<TokenChoice>(&trace.routing.choice);
  const auto ids = choice->expert_ids.contiguous(), kept = kept_pairs(trace, layer, batch, factor).contiguous();
  const int64_t k = ids.size(1);
  const auto* expert = ids.data_ptr<int64_t>();
  const auto* stays = kept.data_ptr<bool>();
  for (size_t t = 0; t < batch.segments.size(); ++t) {
    if (batch.segments[t] < 0) continue;
    for (int64_t j = 0; j < k; ++j) {
      const auto pair = static_cast<int64_t>(t) * k + j;
      if (expert[pair] < 0) continue;
      record.token.push_back(batch.input_ids[t]);
      record.position.push_back(batch.positions[t]);
      record.domain.push_back(batch.tags.empty() ? 0 : batch.tags[t]);
      record.expert.push_back(static_cast<int32_t>(expert[pair]));
      record.dropped.push_back(!stays[pair]);
    }
  }
}

}  // namespace

std::map<int64_t, RoutingRecord> record_routing(LanguageModel& model, const data::TokenStream& text, const RecordOptions& options) {
  std::map<int64_t, RoutingRecord> out;
  const auto layers = model.moe_layers();
  if (layers.empty()) return out;
  const EvalMode mode(model);
  const ComputeScope scope(options.compute);
  const data::EvalBatches batches(text, {.seq_len = options.seq_len,
                                         .batch_size = 8,
                                         .cross_documents = options.cross_documents,
                                         .max_windows = (options.max_tokens + options.seq_len - 1) / options.seq_len});
  for (int64_t i = 0; i < batches.size(); ++i) {
    const auto batch = batches.batch(i);
    ModelTrace trace;
    (void)model.forward(to_tensors(batch).tokens, {.trace = &trace});
    for (const auto& [number, layer] : layers)
      if (const MoETrace& moe = trace.moe.at(number); std::holds_alternative<TokenChoice>(moe.routing.choice))
        append(moe, *layer, batch, options.capacity_factor, out[number]);
  }
  return out;
}

}  // namespace switchyard
