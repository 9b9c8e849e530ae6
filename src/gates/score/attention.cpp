// Attention over the experts of one token: q, k, v = W_q x, W_k x, W_v x, each one number per expert;
//   A = softmax over j of (q_i k_j),   z_i = sum_j A_ij v_j
// Tokens do not see each other. z is a convex combination of v, so that logits stay between its extremes.
// Source: Yuan 2.0-M32, arXiv:2405.17976 section 2.2 and its public code.
#include "core/expert_attention.h"
#include "core/ops.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

#include <cmath>

namespace switchyard::gates {
namespace {

class AttentionScore final : public Scorer {
 public:
  struct Options {
    double init_scale = 1;
    template <class V> void fields(V&& v) { v("init_scale", init_scale, "initial weights are N(0, init_scale / d_model)"); }
  };

  AttentionScore(const Options& o, const GateShape& s) {
    auto w = torch::empty({3 * s.num_experts, s.d_model});
    RandomStream(s.seed).at("router", static_cast<uint64_t>(s.layer)).fill_normal(w.data_ptr<float>(), w.numel());
    weight_ = register_parameter("weight", w * std::sqrt(o.init_scale / static_cast<double>(s.d_model)));
  }

  torch::Tensor score(const torch::Tensor& units, const GateInput&) override {
    return ops::expert_attention(ops::linear(units, weight_, /*exact=*/true));
  }

 private:
  torch::Tensor weight_;  // [3E, d]: rows of W_q, W_k, W_v
};

}  // namespace

ScoreEntry score_attention() {
  return plug_in<AttentionScore, ScoreEntry>("attention", "arXiv:2405.17976", "attention over the experts of a token");
}

}  // namespace switchyard::gates
