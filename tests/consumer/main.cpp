// A Mixture-of-Experts layer inside an ordinary torch module, with a loss of our own; ends with 0 when all of it works.
#include <switchyard/error.h>
#include <switchyard/moe.h>

#include <ATen/ATen.h>

#include <cstdio>

namespace sy = switchyard;

namespace {

// An auxiliary loss that the library does not have: the largest share of one expert.
class LargestShare final : public sy::LossTerm {
 public:
  using Options = sy::NoOptions;
  explicit LargestShare(const Options&) {}
  torch::Tensor value(const sy::RoutingStats& s) const override { return s.scores.probs.mean(0).max(); }
};

struct Net : torch::nn::Module {
  Net() { register_module("moe", moe.ptr()); }
  sy::MoE moe{{.d_model = 16,
               .d_expert = 32,
               .num_experts = 4,
               .gate = {"top_k", {{"k", 2}}},
               .experts = {"swiglu"},
               .capacity = {.factor = 1.25},
               .losses = {{"load_balance", 1e-2}, {"router_z", 1e-3}, {"largest_share", 1e-2}}}};
};

int failed(const char* what) {
  std::fprintf(stderr, "consumer: %s\n", what);
  return 1;
}

}  // namespace

int main() {
  sy::loss_registry().add(sy::plug_in<LargestShare, sy::LossEntry>("largest_share", "", "mean probability of the busiest expert"));

  Net net;
  net.train();
  const auto x = at::randn({2, 5, 16});
  auto [hidden, aux_loss] = net.moe(x);
  (hidden.square().mean() + aux_loss).backward();
  if (hidden.sizes() != x.sizes()) return failed("the output has another shape than the input");
  for (const auto& parameter : net.parameters())
    if (!parameter.grad().defined() || !parameter.grad().isfinite().all().item<bool>()) return failed("a parameter has no finite gradient");

  try {
    sy::MoE typo({.d_model = 16, .d_expert = 32, .gate = {"top_kk"}});
    return failed("a gate that does not exist was accepted");
  } catch (const sy::Error& error) {
    std::printf("%s: %s\n", std::string(sy::name_of(error.kind())).c_str(), error.what());
  }
  std::printf("%zu parameters, auxiliary loss %.4f\n", net.parameters().size(), aux_loss.item<double>());
}
