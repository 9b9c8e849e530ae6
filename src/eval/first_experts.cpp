#include "eval/first_experts.h"

#include "data/batches.h"
#include "eval/batch_tensors.h"
#include "eval/expert_shares.h"
#include "models/eval_mode.h"
#include "switchyard/error.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

torch::Tensor first_of(const Routing& routing, int64_t tokens, int64_t num_experts) {
  if (const auto* choice = std::get_if<TokenChoice>(&routing.choice)) return choice->expert_ids.select(1, 0);
  const auto [weight, expert] = expert_weights(routing, tokens, num_experts).max(1);
  return at::where(weight > 0, expert, torch::full({}, -1, torch::kInt64));
}

}  // namespace

FirstExperts first_experts(LanguageModel& model, const data::TokenStream& text, const FirstExpertOptions& options) {
  FirstExperts out;
  if (model.moe_layers().empty()) return out;
  const EvalMode mode(model);
  const ComputeScope scope(options.compute);
  const data::EvalBatches batches(text, {.seq_len = options.seq_len,
                                         .batch_size = 8,
                                         .cross_documents = options.cross_documents,
                                         .max_windows = (options.max_tokens + options.seq_len - 1) / options.seq_len});
  for (int64_t i = 0; i < batches.size(); ++i) {
    const auto batch = task_of(model, batches.batch(i), RandomStream(0, "mask").at("first experts", static_cast<uint64_t>(i)));
    ModelTrace trace;
    (void)model.forward(to_tensors(batch).tokens, {.trace = &trace});
    for (const auto& [layer, moe] : trace.moe) {
      const auto first = first_of(moe.routing, static_cast<int64_t>(batch.documents.size()), moe.stats.num_experts).to(torch::kInt64).contiguous();
      for (size_t t = 0; t < batch.documents.size(); ++t)
        if (batch.documents[t] >= 0) out[layer].push_back(static_cast<int32_t>(first.data_ptr<int64_t>()[t]));
    }
  }
  return out;
}

std::map<int64_t, double> changed_share(const FirstExperts& before, const FirstExperts& after) {
  std::map<int64_t, double> out;
  for (const auto& [layer, now] : after) {
    const auto then = before.find(layer);
    if (then == before.end() || then->second.size() != now.size() || now.empty() || before.size() != after.size())
      fail(ErrorKind::usage, "first experts of layer {}: {} tokens, before {}; expected the same tokens of the same layers", layer, now.size(),
           then == before.end() ? 0 : then->second.size());
    int64_t changed = 0;
    for (size_t t = 0; t < now.size(); ++t) changed += now[t] != then->second[t];
    out[layer] = static_cast<double>(changed) / static_cast<double>(now.size());
  }
  return out;
}

}  // namespace switchyard
