#include "bench/torch_layer.h"

#include <ATen/ATen.h>

namespace switchyard::bench {

TorchLayer::TorchLayer(MoELayer& layer, torch::ScalarType dtype, bool with_gradient) : dtype_(dtype) {
  const auto copies = [&](ExpertBank& bank) {
    const auto parameters = bank.named_parameters();
    const torch::Tensor in = parameters["w_in"].detach(), out = parameters["w_out"].detach();
    std::vector<Expert> experts;
    for (int64_t e = 0; e < in.size(0); ++e)
      experts.push_back({in[e].to(dtype).set_requires_grad(with_gradient), out[e].to(dtype).set_requires_grad(with_gradient)});
    return experts;
  };
  experts_ = copies(layer.experts());
  if (layer.shared_experts()) shared_ = copies(*layer.shared_experts());
}

torch::Tensor TorchLayer::run(const Expert& expert, const torch::Tensor& rows) const {
  const auto z = at::linear(rows, expert.in).chunk(2, -1);
  return at::linear(at::silu(z[0]) * z[1], expert.out);
}

torch::Tensor TorchLayer::forward(const torch::Tensor& tokens, const TokenChoice& choice) const {
  const auto x = tokens.to(dtype_);
  const int64_t k = choice.expert_ids.size(1), experts = static_cast<int64_t>(experts_.size());
  const auto flat = choice.expert_ids.flatten();
  const auto order = std::get<1>(flat.sort(/*stable=*/true, /*dim=*/0, /*descending=*/false));
  const auto counts = at::bincount(flat, {}, experts);
  const auto token = order.div(k, "floor");
  const auto weight = choice.weights.flatten().index_select(0, order).unsqueeze(1);
  auto y = torch::zeros_like(tokens);
  int64_t row = 0;
  for (int64_t e = 0; e < experts; ++e) {
    const int64_t n = counts.data_ptr<int64_t>()[e];
    if (n == 0) continue;
    const auto mine = token.slice(0, row, row + n);
    const auto out = run(experts_[static_cast<size_t>(e)], x.index_select(0, mine));
    y = y.index_add_(0, mine, out.to(torch::kFloat32) * weight.slice(0, row, row + n));
    row += n;
  }
  for (const Expert& expert : shared_) y = y + run(expert, x).to(torch::kFloat32);
  return y;
}

std::vector<torch::Tensor> TorchLayer::parameters() const {
  std::vector<torch::Tensor> out;
  for (const auto* list : {&experts_, &shared_})
    for (const Expert& e : *list) out.insert(out.end(), {e.in, e.out});
  return out;
}

}  // namespace switchyard::bench
