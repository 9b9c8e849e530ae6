// z_i = cos(W x, e_i) / tau: unit vectors in a space of `dim` dimensions; scales of tokens and experts do not matter.
// tau is learned and kept above min_tau. Source: X-MoE, arXiv:2204.09179 section 3.
//   form = "paper"  both vectors normalised, learned tau (0.3 at the start)
//   form = "code"   the released code: e_i normalised and scaled to 1.5 in effect, W x as it is, no tau
// dim = 0 takes E / 2, the paper's choice.
#include "core/ops.h"
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

#include <cmath>

namespace switchyard::gates {
namespace {

class CosineScore final : public Scorer {
 public:
  struct Options {
    int64_t dim = 0;
    double tau = 0.3, min_tau = 0.01;
    std::string form = "paper";
    template <class V> void fields(V&& v) {
      v("dim", dim, "width of the space of directions; 0 = num_experts / 2");
      v("tau", tau, "temperature at the start");
      v("min_tau", min_tau, "smallest temperature");
      v("form", form, "paper: both directions and a learned temperature; code: as released, without either");
    }
  };

  CosineScore(const Options& o, const GateShape& s) : o_(o) {
    if (o.dim < 0) fail(ErrorKind::config, "score cosine: dim = {} in layers.{}.ffn, expected 0 or more", o.dim, s.layer);
    if (!(o.min_tau > 0 && o.tau >= o.min_tau)) fail(ErrorKind::config, "score cosine: tau = {}, min_tau = {}, expected tau >= min_tau > 0", o.tau, o.min_tau);
    if (o.form != "paper" && o.form != "code") fail(ErrorKind::config, "score cosine: form = '{}', expected paper or code", o.form);
    const int64_t dim = o.dim > 0 ? o.dim : std::max<int64_t>(1, s.num_experts / 2);
    const auto stream = RandomStream(s.seed).at("router", static_cast<uint64_t>(s.layer));
    const auto draw = [&](const char* name, int64_t rows, int64_t columns) {
      auto w = torch::empty({rows, columns});
      stream.at(name).fill_normal(w.data_ptr<float>(), w.numel());
      return register_parameter(name, w / std::sqrt(static_cast<double>(columns)));
    };
    project_ = draw("project", dim, s.d_model);
    experts_ = draw("experts", s.num_experts, dim);
    if (o.form == "paper") log_tau_ = register_parameter("log_tau", torch::full({1}, std::log(o.tau)));
  }

  torch::Tensor score(const torch::Tensor& units, const GateInput&) override {
    const auto direction = [](const torch::Tensor& x) { return x / (x.square().sum(-1, true) + kEps * kEps).sqrt(); };
    const auto x = ops::linear(units, project_, /*exact=*/true);
    if (o_.form == "code") return ops::linear(x, (direction(experts_) * kCodeNorm).contiguous(), /*exact=*/true);
    return ops::linear(direction(x).contiguous(), direction(experts_).contiguous(), /*exact=*/true) / log_tau_.exp().clamp_min(o_.min_tau);
  }

 private:
  static constexpr double kEps = 1e-4, kCodeNorm = 1.5;
  Options o_;
  torch::Tensor project_, experts_, log_tau_;  // [dim, d], [E, dim], [1]
};

}  // namespace

ScoreEntry score_cosine() {
  return plug_in<CosineScore, ScoreEntry>("cosine", "arXiv:2204.09179", "angle between token and expert in a small space, over a learned temperature");
}

}  // namespace switchyard::gates
