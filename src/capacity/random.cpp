// Random token selection in training, token order outside it (Z-code M3, arXiv:2109.10465). The draw of a token depends on
// its global index only, so the order does not change with the number of ranks.
#include "core/registries.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

class Random final : public Priority {
 public:
  using Options = NoOptions;
  explicit Random(const Options&) {}
  torch::Tensor order(const TokenChoice& choice, const Scores&, const GateInput& in) const override {
    const auto tokens = choice.expert_ids.size(0);
    if (!in.training) return torch::arange(tokens, torch::kInt64);
    auto key = torch::empty({tokens}, torch::kFloat32);
    in.random.at("priority").fill_uniform(key.data_ptr<float>(), tokens, static_cast<uint64_t>(in.first_token));
    return std::get<1>(at::sort(key, /*stable=*/true, /*dim=*/0, /*descending=*/false));
  }
  bool looks_ahead() const override { return true; }
};

}  // namespace

PriorityEntry priority_random() { return plug_in<Random, PriorityEntry>("random", "arXiv:2109.10465", "a random order in training"); }

}  // namespace switchyard
