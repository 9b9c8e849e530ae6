#include "steps/partition.h"

#include "eval/batch_tensors.h"
#include "experts/partial.h"
#include "models/eval_mode.h"
#include "switchyard/error.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>

namespace switchyard {
namespace {

ModelSpec partial_spec(const ModelSpec& model) {
  ModelSpec s = model;
  if (!s.moe || s.moe->site != "ffn") fail(ErrorKind::unsupported, "partition: the model has no feed-forward experts");
  if (s.moe->experts.kind == "partial") return s;
  BlockSpec experts{"partial", {{"of", s.moe->experts.kind}}};
  for (const char* key : {"dropout", "bias"})
    if (const ConfigNode* node = s.moe->experts.options.find(key)) experts.options.table()->emplace_back(key, *node);
  for (const char* key : {"interleaved", "beta", "tanh"})
    if (s.moe->experts.options.find(key)) fail(ErrorKind::unsupported, "partition: experts '{}' with the option {} have no partial form", s.moe->experts.kind, key);
  s.moe->experts = experts;
  try {
    (void)expert_registry().make(experts, BankShape{.d_model = 1, .d_expert = 1, .num_local_experts = 0});
    return s.resolved();
  } catch (const Error& error) {
    fail(ErrorKind::unsupported, "partition: experts '{}' have no partial form: {}", model.moe->experts.kind, error.what());
  }
}

std::vector<PartialBank*> banks_of(LanguageModel& model) {
  std::vector<PartialBank*> out;
  for (const auto& [number, layer] : model.moe_layers())
    if (auto* bank = dynamic_cast<PartialBank*>(&layer->experts())) out.push_back(bank);
  return out;
}

std::shared_ptr<LanguageModel> with_partial_experts(LanguageModel& model) {
  const auto out = std::make_shared<LanguageModel>(partial_spec(model.spec()), std::nullopt);
  const c10::NoGradGuard no_grad;
  auto to = out->named_parameters(), to_buffers = out->named_buffers();
  for (const auto& item : model.named_parameters()) to[item.key()].copy_(item.value());
  for (const auto& item : model.named_buffers()) to_buffers[item.key()].copy_(item.value());
  if (model.spec().moe->experts.kind != "partial")
    for (auto& module : out->modules(/*include_self=*/false))
      if (auto* bank = dynamic_cast<PartialBank*>(module.get())) bank->set_static_to_mean();
  return out;
}

}  // namespace

std::shared_ptr<LanguageModel> partitioned(LanguageModel& model, const data::TokenStream& text, const PartitionOptions& o, PartitionReport* report) {
  if (!(o.keep >= 0 && o.keep <= 1) || o.rounds < 1) fail(ErrorKind::usage, "partition: keep = {} in {} rounds, expected 0 to 1 in at least 1", o.keep, o.rounds);
  const auto out = with_partial_experts(model);
  const auto banks = banks_of(*out);
  if (banks.empty()) fail(ErrorKind::unsupported, "partition: the model has no feed-forward experts");
  PartitionReport found;
  for (PartialBank* bank : banks) found.stored_before += bank->stored_entries();
  const EvalMode mode(*out);
  const ComputeScope scope(o.windows.compute);
  const data::EvalBatches batches(text, {.seq_len = o.windows.seq_len, .batch_size = 8, .cross_documents = o.windows.cross_documents,
                                         .max_windows = (o.windows.max_tokens + o.windows.seq_len - 1) / o.windows.seq_len});
  if (batches.size() == 0) fail(ErrorKind::usage, "partition: the text has no tokens");
  for (int64_t round = 1; round <= o.rounds; ++round) {
    for (int64_t i = 0; i < batches.size(); ++i) {
      const auto tensors = to_tensors(batches.batch(i));
      const at::AutoGradMode grad(true);
      ops::cross_entropy(out->logits(out->forward(tensors.tokens).hidden).flatten(0, 1), tensors.labels).sum().backward();
      for (PartialBank* bank : banks) bank->add_scores();
      for (auto& p : out->parameters()) p.mutable_grad() = torch::Tensor();
    }
    for (PartialBank* bank : banks) bank->keep(std::pow(o.keep, static_cast<double>(round) / static_cast<double>(o.rounds)));
  }
  for (PartialBank* bank : banks) {
    found.entries += bank->entries();
    found.dynamic += bank->dynamic_entries();
    found.stored += bank->stored_entries();
  }
  if (report) *report = found;
  return out;
}

}  // namespace switchyard
