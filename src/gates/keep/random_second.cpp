// The second expert of a top-2 gate gets the token only sometimes:
//   policy = "random"     with probability min(1, 2 w2)           GShard, arXiv:2006.16668 section 2.2
//   policy = "threshold"  when w2 > threshold
//   policy = "scaled"     with probability min(1, w2 / threshold) ST-MoE, arXiv:2202.08906 (threshold 0.2)
//   policy = "none"       never
// w2 is the weight as it comes in (normalised before anything is dropped); the first expert keeps its weight. Draws are made
// in training; outside it "random" and "scaled" send every second expert, unless `in_eval`.
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

namespace switchyard::gates {
namespace {

class RandomSecond final : public Keeper {
 public:
  struct Options {
    std::string policy = "random";
    double threshold = 0.2;
    bool in_eval = false;
    template <class V> void fields(V&& v) {
      v("policy", policy, "random, threshold, scaled or none");
      v("threshold", threshold, "of the weight, for threshold and scaled");
      v("in_eval", in_eval, "draw outside training as well");
    }
  };

  RandomSecond(const Options& o, const GateShape&) : o_(o) {
    if (o.policy != "random" && o.policy != "threshold" && o.policy != "scaled" && o.policy != "none")
      fail(ErrorKind::config, "keep random_second: policy = '{}', expected random, threshold, scaled or none", o.policy);
    if (!(o.threshold > 0 && o.threshold <= 1)) fail(ErrorKind::config, "keep random_second: threshold = {}, expected 0 < threshold <= 1", o.threshold);
  }

  void keep(const Scored& s, Selection& chosen, torch::Tensor& weights) override {
    if (chosen.by_column || chosen.ids.size(1) != 2) fail(ErrorKind::config, "keep random_second: needs a gate that chooses two experts per token");
    const auto sent = second_is_sent(s.input, weights.select(1, 1).detach());
    const auto all = at::stack({torch::ones_like(sent), sent}, 1);
    chosen.ids = at::where(all, chosen.ids, torch::full({}, -1, torch::kInt64));
    weights = weights * all.to(weights.scalar_type());
  }

 private:
  [[nodiscard]] torch::Tensor second_is_sent(const GateInput& in, const torch::Tensor& w) const {
    if (o_.policy == "none") return torch::zeros_like(w, torch::kBool);
    if (o_.policy == "threshold") return w > o_.threshold;
    if (!in.training && !o_.in_eval) return torch::ones_like(w, torch::kBool);
    auto u = torch::empty(w.sizes(), torch::kFloat32);
    in.random.at("random_second").fill_uniform(u.data_ptr<float>(), u.numel(), static_cast<uint64_t>(in.first_token));
    return (o_.policy == "random" ? 2 * w : w / o_.threshold) > u;
  }

  Options o_;
};

}  // namespace

KeepEntry keep_random_second() {
  return plug_in<RandomSecond, KeepEntry>("random_second", "arXiv:2006.16668", "the second expert works with a chance that grows with its weight");
}

}  // namespace switchyard::gates
