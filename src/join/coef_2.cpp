// Residual experts with learned coefficients: each token decides how its routed sum and its always-on network are mixed,
//
//   c = softmax(x W_c^T + b_c) in R^2        y = c_0 routed + c_1 shared
//
// W_c [2, d], uniform on +-1/sqrt(d) at first, b_c = 0. Padding gets the shared experts alone. Coefficients are formed in float32.
// Source: DeepSpeed-MoE, arXiv:2201.05596 section 4.1, and its released code (`use_residual`); the paper itself adds the two: join "sum".
#include "core/ops.h"
#include "switchyard/join.h"

#include <ATen/ATen.h>

#include <cmath>

namespace switchyard {
namespace {

class Coefficients final : public Join {
 public:
  using Options = NoOptions;

  Coefficients(const Options&, const GateShape& s) {
    const double bound = 1 / std::sqrt(static_cast<double>(s.d_model));
    auto w = torch::empty({2, s.d_model});
    RandomStream(s.seed).at("coefficients", static_cast<uint64_t>(s.layer)).fill_uniform(w.data_ptr<float>(), w.numel());
    weight_ = register_parameter("weight", w.mul_(2 * bound).sub_(bound));
    bias_ = register_parameter("bias", torch::zeros({2}));
  }

  torch::Tensor join(const torch::Tensor& routed, const torch::Tensor& shared, const GateInput& in, std::map<std::string, torch::Tensor>&) override {
    auto c = at::softmax(ops::linear(in.hidden, weight_, /*exact=*/true) + bias_, 1);  // [T, 2]
    if (in.valid.defined()) c = at::where(in.valid.unsqueeze(1), c, torch::tensor({0.0, 1.0}, c.options()));
    return c.slice(1, 0, 1) * routed + c.slice(1, 1, 2) * shared;
  }

 private:
  torch::Tensor weight_, bias_;  // [2, d], [2]
};

}  // namespace

JoinEntry join_coef_2() { return plug_in<Coefficients, JoinEntry>("coef_2", "arXiv:2201.05596", "a softmax per token over two mixes routed and shared experts"); }

}  // namespace switchyard
