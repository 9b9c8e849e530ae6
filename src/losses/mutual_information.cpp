// Minus the mutual information between what is routed and where it goes; small when gates are sharp and experts balanced.
//   of = "token"  L = H(e|x) - H(e),  H(e|x) = mean entropy of p_t,  H(e) = entropy of the mean p: -ln E <= L <= 0
//                 ModuleFormer, arXiv:2306.04640 section 3.2; DS-MoE, arXiv:2404.05567
//   of = "task"   L = -sum J ln(J / (J_task J_expert) + 1e-4),  J[m, e] = sum over the tokens of task m of p_te / T
//                 Mod-Squad, arXiv:2212.08066 section 3.2; tasks are the tags of the tokens
#include "switchyard/error.h"
#include "switchyard/loss.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

class MutualInformation final : public LossTerm {
 public:
  struct Options {
    std::string of = "token";
    template <class V> void fields(V&& v) { v("of", of, "token: between token and expert; task: between the tag of a token and expert"); }
  };
  explicit MutualInformation(const Options& o) : of_task_(o.of == "task") {
    if (o.of != "token" && o.of != "task") fail(ErrorKind::config, "loss mutual_information: of = '{}', expected token or task", o.of);
  }

  torch::Tensor value(const RoutingStats& s) const override {
    if (!s.scores.probs.defined()) fail(ErrorKind::config, "loss mutual_information: the gate of layer {} has no probabilities", s.layer);
    if (s.num_tokens == 0) return s.scores.probs.sum();
    return of_task_ ? by_task(s) : by_token(s.scores.probs);
  }

 private:
  static torch::Tensor entropy(const torch::Tensor& p) { return -(p * p.clamp_min(1e-30).log()).sum(-1); }
  static torch::Tensor by_token(const torch::Tensor& p) { return entropy(p).mean() - entropy(p.mean(0)); }

  static torch::Tensor by_task(const RoutingStats& s) {
    if (!s.tags.defined()) fail(ErrorKind::config, "loss mutual_information: of = 'task' needs a tag for every token, and layer {} got none", s.layer);
    constexpr double kInsideLog = 1e-4;  // as the public code has it: keeps the logarithm of an empty cell finite
    const int64_t tasks = s.tags.max().item<int64_t>() + 1;
    const auto j = torch::zeros({tasks, s.num_experts}, s.scores.probs.options()).index_add(0, s.tags, s.scores.probs) / static_cast<double>(s.num_tokens);
    const auto independent = (j.sum(1, true) * j.sum(0, true)).clamp_min(1e-30);
    return -(j * (j / independent + kInsideLog).log()).sum();
  }

  bool of_task_;
};

}  // namespace

LossEntry loss_mutual_information() {
  return plug_in<MutualInformation, LossEntry>("mutual_information", "arXiv:2306.04640", "sharp gates and balanced experts at once");
}

}  // namespace switchyard
