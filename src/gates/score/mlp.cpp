// z = W2 phi(W1 x + b1), no bias in the last layer; dropout on its input in training. phi = GELU: ModuleFormer, arXiv:2306.04640;
// phi = tanh without b1 and with as many inner neurons as experts: LLaMA-MoE, arXiv:2406.16554.
#include "core/ops.h"
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

#include <cmath>

namespace switchyard::gates {
namespace {

class MlpScore final : public Scorer {
 public:
  struct Options {
    int64_t hidden = 256;
    double dropout = 0;
    std::string activation = "gelu";
    bool bias = true;
    template <class V> void fields(V&& v) {
      v("hidden", hidden, "width of the inner layer");
      v("dropout", dropout, "on the inner layer, training only");
      v("activation", activation, "of the inner layer: gelu or tanh");
      v("bias", bias, "of the inner layer");
    }
  };

  MlpScore(const Options& o, const GateShape& s) : o_(o) {
    if (o.hidden < 1) fail(ErrorKind::config, "score mlp: hidden = {} in layers.{}.ffn, expected at least 1", o.hidden, s.layer);
    if (!(o.dropout >= 0 && o.dropout < 1)) fail(ErrorKind::config, "score mlp: dropout = {}, expected 0 <= dropout < 1", o.dropout);
    if (o.activation != "gelu" && o.activation != "tanh") fail(ErrorKind::config, "score mlp: activation = '{}', expected gelu or tanh", o.activation);
    const auto stream = RandomStream(s.seed).at("router", static_cast<uint64_t>(s.layer));
    const auto draw = [&](const char* name, int64_t rows, int64_t columns) {
      auto w = torch::empty({rows, columns});
      stream.at(name).fill_normal(w.data_ptr<float>(), w.numel());
      return register_parameter(name, w / std::sqrt(static_cast<double>(columns)));
    };
    inner_ = draw("inner", o.hidden, s.d_model);
    if (o.bias) bias_ = register_parameter("inner_bias", torch::zeros({o.hidden}));
    outer_ = draw("outer", s.num_experts, o.hidden);
  }

  torch::Tensor score(const torch::Tensor& units, const GateInput& in) override {
    auto h = ops::linear(units, inner_, /*exact=*/true);
    if (bias_.defined()) h = h + bias_;
    h = o_.activation == "tanh" ? at::tanh(h) : at::gelu(h);
    if (in.training && o_.dropout > 0) h = ops::dropout(h, o_.dropout, in.random.at("mlp_score").at("first_token", static_cast<uint64_t>(in.first_token)));
    return ops::linear(h, outer_, /*exact=*/true);
  }

 private:
  Options o_;
  torch::Tensor inner_, bias_, outer_;  // [hidden, d], [hidden], [E, hidden]
};

}  // namespace

ScoreEntry score_mlp() { return plug_in<MlpScore, ScoreEntry>("mlp", "arXiv:2306.04640", "two layers with a GELU or tanh between them"); }

}  // namespace switchyard::gates
