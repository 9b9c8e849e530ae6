// Importance loss:  L = CV(Imp)^2,  Imp_e = sum over tokens of the weight of e;  CV^2 = variance / mean^2.
//   of = "weights"  the weights of the chosen experts         Shazeer et al., arXiv:1701.06538 section 4
//   of = "probs"    the probabilities of all experts          V-MoE, arXiv:2106.05974 appendix A (weight 0.005 in its code)
// Population variance; `unbiased` divides by E - 1 as some codes do. One expert, and an empty call, give 0.
#include "core/cv_squared.h"
#include "switchyard/error.h"
#include "switchyard/loss.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

class Importance final : public LossTerm {
 public:
  struct Options {
    std::string of = "weights";
    bool unbiased = false;
    template <class V> void fields(V&& v) {
      v("of", of, "weights: of the chosen experts; probs: probabilities of all experts");
      v("unbiased", unbiased, "variance over E - 1 instead of E");
    }
  };

  explicit Importance(const Options& o) : of_probs_(o.of == "probs"), unbiased_(o.unbiased) {
    if (o.of != "weights" && o.of != "probs") fail(ErrorKind::config, "loss importance: of = '{}', expected weights or probs", o.of);
  }

  torch::Tensor value(const RoutingStats& s) const override {
    if (of_probs_) {
      if (!s.scores.probs.defined()) fail(ErrorKind::config, "loss importance: the gate of layer {} has no probabilities", s.layer);
      return cv_squared(s.scores.probs.sum(0), unbiased_);
    }
    if (!s.weights.defined()) fail(ErrorKind::config, "loss importance: in layer {} tokens choose no experts; use of = 'probs'", s.layer);
    const auto sent = (s.expert_ids >= 0).to(s.weights.scalar_type());
    const auto sums = torch::zeros({s.num_experts}, s.weights.options())
                          .index_add(0, s.expert_ids.clamp_min(0).reshape({-1}), (s.weights * sent).reshape({-1}));
    return cv_squared(sums, unbiased_);
  }

 private:
  bool of_probs_, unbiased_;
};

}  // namespace

LossEntry loss_importance() { return plug_in<Importance, LossEntry>("importance", "arXiv:1701.06538", "squared variation of the summed weights"); }

}  // namespace switchyard
