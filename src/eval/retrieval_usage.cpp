#include "eval/retrieval_usage.h"

#include "experts/peer.h"

#include <ATen/ATen.h>

#include <cmath>

namespace switchyard {

double RetrievalUsage::used() const { return reads.gt(0).to(torch::kFloat64).mean().item<double>(); }

double RetrievalUsage::unevenness() const {
  const auto z = weight / weight.sum();
  return std::log(static_cast<double>(z.size(0))) + at::xlogy(z, z).sum().item<double>();
}

std::map<std::string, RetrievalUsage> retrieval_usage(LanguageModel& model, const data::TokenStream& text, const WindowOptions& options) {
  std::map<std::string, RetrievalUsage> out;
  torch::Tensor counted;  // rows of the call that are no padding
  std::vector<PeerBank*> banks;
  for (const auto& item : model.named_modules("", /*include_self=*/false)) {
    auto* bank = dynamic_cast<PeerBank*>(item.value().get());
    if (!bank) continue;
    banks.push_back(bank);
    auto& usage = out[item.key()] = {torch::zeros({bank->num_neurons()}, torch::kInt64), torch::zeros({bank->num_neurons()}, torch::kFloat64)};
    bank->observe([&usage, &counted](const torch::Tensor& experts, const torch::Tensor& weights, const RowContext&) {
      const auto who = experts.index_select(0, counted).flatten();
      usage.reads.index_add_(0, who, torch::ones_like(who));
      usage.weight.index_add_(0, who, weights.index_select(0, counted).flatten().to(torch::kFloat64));
    });
  }
  struct Release {
    std::vector<PeerBank*>& banks;
    ~Release() {
      for (PeerBank* bank : banks) bank->observe(nullptr);
    }
  } release{banks};
  if (!banks.empty()) visit_windows(model, text, options, [&](const data::Batch& batch) { counted = (places_of(batch) >= 0).nonzero().view({-1}); });
  return out;
}

}  // namespace switchyard
