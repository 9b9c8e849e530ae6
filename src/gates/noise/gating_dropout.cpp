// Gating dropout: with probability p the tokens of a step route among the experts of their own device only, which spares the
// exchange between devices. One draw decides for all tokens of the layer's step; the logits of all other experts become -inf,
// so that the probabilities are those of a softmax over the own ones. Off outside training.
// A device holds num_experts / devices consecutive experts and a run of consecutive tokens: `device_tokens` of the step's
// tokens in order, going round, or with 0 the tokens of the call in equal parts.
// Source: Liu et al., arXiv:2205.14336; NLLB, arXiv:2207.04672.
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

#include <limits>

namespace switchyard::gates {
namespace {

class GatingDropout final : public Noiser {
 public:
  struct Options {
    double p = 0.2;
    int64_t devices = 2, device_tokens = 0;
    template <class V> void fields(V&& v) {
      v("p", p, "chance of a step in which tokens stay on their device, training only");
      v("devices", devices, "devices that share the experts, num_experts / devices in a row each");
      v("device_tokens", device_tokens, "tokens in a row on one device; 0 = those of the call in equal parts");
    }
  };

  GatingDropout(const Options& o, const GateShape& s) : o_(o), experts_per_device_(s.num_experts / std::max<int64_t>(1, o.devices)) {
    if (!(o.p >= 0 && o.p <= 1)) fail(ErrorKind::config, "noise gating_dropout: p = {}, expected 0 to 1", o.p);
    if (o.devices < 1 || s.num_experts % o.devices != 0)
      fail(ErrorKind::config, "noise gating_dropout: devices = {} in layers.{}.ffn, expected a divisor of num_experts = {}", o.devices, s.layer, s.num_experts);
    if (o.device_tokens < 0) fail(ErrorKind::config, "noise gating_dropout: device_tokens = {}, expected 0 or more", o.device_tokens);
  }

  void on_logits(Scored& s) override {
    if (!s.input.training || s.input.random.at("gating_dropout").uniform(0) >= o_.p) return;
    if (s.unit_of.defined()) fail(ErrorKind::config, "noise gating_dropout: only tokens live on devices; it needs pool = 'token'");
    const auto device_of_expert = torch::arange(s.logits.size(1), torch::kInt64).floor_divide(experts_per_device_);
    const auto elsewhere = device_of_tokens(s.logits.size(0), s.input.first_token).unsqueeze(1) != device_of_expert;
    s.noisy = s.noisy.masked_fill(elsewhere, -std::numeric_limits<float>::infinity());
  }

 private:
  // [T]
  [[nodiscard]] torch::Tensor device_of_tokens(int64_t tokens, int64_t first) const {
    if (o_.device_tokens == 0) return (torch::arange(tokens, torch::kInt64) * o_.devices).floor_divide(std::max<int64_t>(1, tokens));
    return torch::arange(first, first + tokens, torch::kInt64).floor_divide(o_.device_tokens).remainder(o_.devices);
  }

  Options o_;
  int64_t experts_per_device_;
};

}  // namespace

NoiseEntry noise_gating_dropout() {
  return plug_in<GatingDropout, NoiseEntry>("gating_dropout", "arXiv:2205.14336", "in some steps tokens route on their own device only");
}

}  // namespace switchyard::gates
