// y = routed + sigmoid(w . x) shared: one scalar per token, no bias. w [1, d] begins as N(0, init_std^2).
// Source: Qwen1.5-MoE, and Qwen2-MoE in arXiv:2407.10671 section 2.2.2 (`shared_expert_gate` of the released weights).
#include "core/ops.h"
#include "switchyard/error.h"
#include "switchyard/join.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

class GatedShared final : public Join {
 public:
  struct Options {
    double init_std = 0.02;
    template <class V> void fields(V&& v) { v("init_std", init_std, "deviation of the initial weights"); }
  };

  GatedShared(const Options& o, const GateShape& s) {
    if (!(o.init_std >= 0)) fail(ErrorKind::config, "join gated_shared: init_std = {}, expected 0 or more", o.init_std);
    auto w = torch::empty({1, s.d_model});
    RandomStream(s.seed).at("gated_shared", static_cast<uint64_t>(s.layer)).fill_normal(w.data_ptr<float>(), w.numel());
    weight_ = register_parameter("weight", w.mul_(o.init_std));
  }

  torch::Tensor join(const torch::Tensor& routed, const torch::Tensor& shared, const GateInput& in, std::map<std::string, torch::Tensor>&) override {
    return routed + at::sigmoid(ops::linear(in.hidden, weight_, /*exact=*/true)) * shared;
  }

 private:
  torch::Tensor weight_;  // [1, d]
};

}  // namespace

JoinEntry join_gated_shared() {
  return plug_in<GatedShared, JoinEntry>("gated_shared", "arXiv:2407.10671", "a sigmoid per token multiplies the shared experts");
}

}  // namespace switchyard
