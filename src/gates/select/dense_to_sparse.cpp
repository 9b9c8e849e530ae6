// Many experts in training, few in use: in training every expert with p > threshold, best first, until `steps` steps have
// passed (0 = always); from then on and outside training the k best, and of those only the ones with p > eval_threshold.
//   EvoMoE's dense-to-sparse gate, arXiv:2112.14397 section 3.3   threshold 1e-3 on an annealed Gumbel softmax, then k = 1
//   DS-MoE, arXiv:2404.05567                                      threshold 0: all experts train; k or a threshold in use
#include "core/ops.h"
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

namespace switchyard::gates {
namespace {

class DenseToSparse final : public Selector {
 public:
  struct Options {
    double threshold = 1e-3, eval_threshold = 0;
    int64_t k = 1, steps = 0;
    template <class V> void fields(V&& v) {
      v("threshold", threshold, "probability above which an expert works in training");
      v("steps", steps, "training steps with many experts; 0 = all of them");
      v("k", k, "experts per token afterwards and outside training");
      v("eval_threshold", eval_threshold, "of those k, only experts above this probability");
    }
  };

  DenseToSparse(const Options& o, const GateShape& s) : o_(o), num_experts_(s.num_experts) {
    if (o.k < 1 || o.k > s.num_experts)
      fail(ErrorKind::config, "select dense_to_sparse: k = {} in layers.{}.ffn, expected 1 to num_experts = {}", o.k, s.layer, s.num_experts);
    if (!(o.threshold >= 0 && o.threshold < 1 && o.eval_threshold >= 0 && o.eval_threshold < 1))
      fail(ErrorKind::config, "select dense_to_sparse: threshold = {}, eval_threshold = {}, expected 0 to 1", o.threshold, o.eval_threshold);
    if (o.steps < 0) fail(ErrorKind::config, "select dense_to_sparse: steps = {}, expected 0 or more", o.steps);
  }

  Selection select(Scored& s) override {
    const bool dense = s.input.training && (o_.steps == 0 || s.input.step < o_.steps);
    return dense ? above(s.ranked.detach(), num_experts_, o_.threshold) : above(s.ranked.detach(), o_.k, o_.eval_threshold);
  }
  // In use: what a trained model costs.
  double experts_per_token() const override { return static_cast<double>(o_.k); }

 private:
  static Selection above(const torch::Tensor& p, int64_t k, double threshold) {
    auto ids = ops::top_k(p, k);
    ids = ids.masked_fill(p.gather(1, ids.clamp_min(0)) <= threshold, -1);
    const int64_t most = ids.numel() == 0 ? 1 : (ids >= 0).sum(1).max().item<int64_t>();
    return {ids.slice(1, 0, std::max<int64_t>(1, most)).contiguous()};
  }

  Options o_;
  int64_t num_experts_;
};

}  // namespace

SelectEntry select_dense_to_sparse() {
  return plug_in<DenseToSparse, SelectEntry>("dense_to_sparse", "arXiv:2112.14397", "every expert above a threshold, later the k best");
}

}  // namespace switchyard::gates
