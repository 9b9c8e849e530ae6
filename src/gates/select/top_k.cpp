// The k experts with the highest probability; equal scores go to the lower id (at::topk gives no such promise). An expert that
// noise put out of reach (logit -inf) is not chosen: a token with fewer than k within reach has fewer choices.
#include "core/ops.h"
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

#include <limits>

namespace switchyard::gates {
namespace {

class TopK final : public Selector {
 public:
  struct Options {
    int64_t k = 2;
    template <class V> void fields(V&& v) { v("k", k, "experts per token"); }
  };

  TopK(const Options& o, const GateShape& s) : k_(o.k) {
    if (k_ < 1) fail(ErrorKind::config, "top_k = {} in layers.{}.ffn, expected at least 1", k_, s.layer);
    if (k_ > s.num_experts) fail(ErrorKind::config, "top_k = {} exceeds num_experts = {} in layers.{}.ffn", k_, s.num_experts, s.layer);
  }
  Selection select(Scored& s) override {
    const auto ids = ops::top_k(s.ranked.detach(), k_);
    if (s.noisy.is_same(s.logits)) return {ids};
    const auto out_of_reach = s.noisy.detach().gather(1, ids.clamp_min(0)) == -std::numeric_limits<float>::infinity();
    return {ids.masked_fill(out_of_reach, -1)};
  }
  double experts_per_token() const override { return static_cast<double>(k_); }

 private:
  int64_t k_;
};

}  // namespace

SelectEntry select_top_k() { return plug_in<TopK, SelectEntry>("top_k", "arXiv:1701.06538", "the k best experts of each token"); }

}  // namespace switchyard::gates
