#include "eval/trace_run.h"

#include "data/batches.h"
#include "eval/batch_tensors.h"
#include "models/eval_mode.h"
#include "eval/expert_shares.h"
#include "eval/passage.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <map>

namespace switchyard {
namespace {

using Json = nlohmann::ordered_json;

// Four decimals are enough for colours and tooltips, and keep the file small.
double rounded(double value) { return std::round(value * 1e4) / 1e4; }

Json matrix(const torch::Tensor& values) {
  const torch::Tensor dense = values.to(torch::kCPU, torch::kFloat64).contiguous();
  const double* x = dense.data_ptr<double>();
  Json rows = Json::array();
  for (int64_t r = 0; r < dense.size(0); ++r) {
    Json row = Json::array();
    for (int64_t c = 0; c < dense.size(1); ++c) row.push_back(rounded(x[r * dense.size(1) + c]));
    rows.push_back(std::move(row));
  }
  return rows;
}

// The domains of a split in the order of their first document, and the domain of each document.
struct Domains {
  std::vector<std::string> names;
  std::vector<int64_t> of_document;
};

Domains domains_of(const data::TokenFile& tokens) {
  Domains out;
  std::map<int64_t, int64_t> place;
  for (const data::TokenDocument& document : tokens.validation().documents()) {
    const auto [it, fresh] = place.try_emplace(document.domain, static_cast<int64_t>(out.names.size()));
    if (fresh) out.names.push_back(tokens.names()[static_cast<size_t>(document.domain)]);
    out.of_document.push_back(it->second);
  }
  for (std::string& name : out.names)
    if (name.empty()) name = out.names.size() == 1 ? "text" : "other";
  return out;
}

// Adds the choices of one batch to counts [domains, E] per layer.
void count_choices(LanguageModel& model, const data::Batch& batch, const Domains& domains, std::map<int64_t, torch::Tensor>& counts) {
  std::vector<int64_t> domain;  // of each token; one row more for padding
  for (const int32_t document : batch.documents)
    domain.push_back(document < 0 ? static_cast<int64_t>(domains.names.size()) : domains.of_document[static_cast<size_t>(document)]);
  const auto rows = torch::tensor(domain, torch::kInt64);
  ModelTrace trace;
  (void)model.forward(to_tensors(batch).tokens, {.trace = &trace});
  for (const auto& [layer, moe] : trace.moe) {
    const auto choices = expert_choices(moe.routing, rows.size(0), moe.stats.num_experts);
    auto [it, fresh] = counts.try_emplace(layer);
    if (fresh) it->second = torch::zeros({static_cast<int64_t>(domains.names.size()) + 1, moe.stats.num_experts}, torch::kFloat32);
    it->second.index_add_(0, rows, choices);
  }
}

Json categories(LanguageModel& model, const data::TokenFile& tokens, const TraceOptions& options) {
  const Domains domains = domains_of(tokens);
  const data::EvalBatches batches(tokens.validation(), {.seq_len = options.seq_len,
                                                        .batch_size = 8,
                                                        .cross_documents = options.cross_documents,
                                                        .max_windows = (options.category_tokens + options.seq_len - 1) / options.seq_len});
  std::map<int64_t, torch::Tensor> counts;
  for (int64_t i = 0; i < batches.size(); ++i) count_choices(model, batches.batch(i), domains, counts);
  Json share = Json::array();
  for (const auto& [layer, table] : counts) {
    const auto real = table.slice(0, 0, table.size(0) - 1);
    share.push_back(matrix(real / real.sum(1, /*keepdim=*/true).clamp_min(1)));
  }
  return {{"names", domains.names}, {"share", share}};
}

Json similarity(LanguageModel& model) {
  Json out = Json::array();
  for (const auto& [layer, moe] : model.moe_layers()) {
    const auto flat = moe->experts().flat_weights().detach().to(torch::kFloat32);
    const auto unit = flat / flat.norm(2, {1}, /*keepdim=*/true).clamp_min(1e-12);
    out.push_back(matrix(unit.matmul(unit.t())));
  }
  return out;
}

}  // namespace

Json trace_routing(LanguageModel& model, const Tokenizer& tokenizer, const data::TokenFile& tokens, const TraceOptions& options) {
  Json layers = Json::array();
  for (const auto& [layer, moe] : model.moe_layers())
    layers.push_back({{"layer", layer},
                      {"num_experts", moe->options().num_experts},
                      {"top_k", static_cast<int64_t>(std::lround(moe->gate().experts_per_token()))}});
  if (layers.empty()) return {{"layers", layers}};
  const EvalMode mode(model);
  const ComputeScope scope(options.compute);
  return {{"layers", layers},
          {"categories", categories(model, tokens, options)},
          {"passage", trace_passage(model, tokenizer, tokens, options)},
          {"similarity", similarity(model)}};
}

}  // namespace switchyard
