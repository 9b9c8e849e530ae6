// The chosen one after the other: the weight of choice j is its share of a softmax over those that were not chosen before it and that come
// near to it,
//   near:  (z_j - z_i) / max(|z_i|, z_j) <= 2 eps
// so that one choice far ahead of the others has the weight 1, and weights do not sum to 1.
// Source: SparseMixer-v2, arXiv:2409.12136 section 2.
//
// Departs: in training the source draws the choices from these shares and corrects the gradient for it (a midpoint rule); here the best are
// taken and the weights have their own gradient. Outside training both are the same.
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

#include <limits>

namespace switchyard::gates {
namespace {

class SparseMixer final : public Weigher {
 public:
  struct Options {
    double eps = 0.01;
    template <class V> void fields(V&& v) { v("eps", eps, "how near others must come to share the weight"); }
  };
  SparseMixer(const Options& o, const GateShape&) : eps_(o.eps) {
    if (!(o.eps >= 0)) fail(ErrorKind::config, "weigh sparse_mixer: eps = {}, expected 0 or more", o.eps);
  }

  torch::Tensor weigh(const Scored& s, const Selection& chosen) override {
    if (chosen.by_column) fail(ErrorKind::config, "weigh sparse_mixer: needs units that choose experts");
    constexpr double kNever = -std::numeric_limits<double>::infinity();
    auto left = s.noisy;
    std::vector<torch::Tensor> weights;
    for (int64_t j = 0; j < chosen.ids.size(1); ++j) {
      const auto id = chosen.ids.slice(1, j, j + 1);
      const auto best = s.noisy.gather(1, id.clamp_min(0)).detach();
      const auto far = (best - s.noisy.detach()) / at::maximum(s.noisy.detach().abs(), best) > 2 * eps_;
      weights.push_back(at::softmax(left.masked_fill(far, kNever), -1).gather(1, id.clamp_min(0)).masked_fill(id < 0, 0));
      left = left.scatter(1, id.clamp_min(0), kNever);
    }
    return at::cat(weights, 1);
  }

 private:
  double eps_;
};

}  // namespace

WeighEntry weigh_sparse_mixer() {
  return plug_in<SparseMixer, WeighEntry>("sparse_mixer", "arXiv:2409.12136", "share of a softmax over those that come near, choice by choice");
}

}  // namespace switchyard::gates
