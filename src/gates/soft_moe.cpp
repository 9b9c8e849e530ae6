// Soft MoE: every slot of an expert is a weighted mean of the tokens of a sequence, every token a weighted mean of what the
// experts make of the slots. Nothing is chosen and nothing is dropped. Per sequence, p slots for each of E experts:
//   Z = scale * X^ Phi^T [m, E p],   x^ = x / sqrt(|x|^2 + 1e-6),   the same for each row of Phi [E p, d]
//   dispatch = softmax over the tokens of the sequence,   combine = softmax over its E p slots
// The slots are means of X itself, not of X^. Sequences never mix: each has its own slots, and padding is in none of them.
// Source: Puigcerver et al., arXiv:2308.00951 section 2.1; p = round(capacity_factor * m / E).
#include "core/group_rows.h"
#include "core/ops.h"
#include "core/sequences.h"
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

namespace switchyard {
namespace {

class SoftMoeGate final : public Gate {
 public:
  struct Options {
    int64_t slots = 1, tokens = 0;
    double capacity_factor = 1, noise_std = 0;
    bool normalise = true;
    template <class V> void fields(V&& v) {
      v("slots", slots, "slots of each expert per sequence; counts when `tokens` is 0");
      v("tokens", tokens, "tokens per sequence: then an expert has round(capacity_factor * tokens / num_experts) slots, at least 1");
      v("capacity_factor", capacity_factor, "slots of all experts over tokens; 1 costs as much as one expert per token");
      v("noise_std", noise_std, "deviation of the noise on Z in training");
      v("normalise", normalise, "tokens and slot parameters have length 1 before their product");
    }
  };

  SoftMoeGate(const Options& o, const GateShape& s) : o_(o), num_experts_(s.num_experts), slots_(o.slots) {
    if (o.slots < 1) fail(ErrorKind::config, "gate soft_moe: slots = {} in layers.{}.ffn, expected at least 1", o.slots, s.layer);
    if (o.tokens < 0) fail(ErrorKind::config, "gate soft_moe: tokens = {} in layers.{}.ffn, expected 0 or more", o.tokens, s.layer);
    if (!(o.capacity_factor > 0)) fail(ErrorKind::config, "gate soft_moe: capacity_factor = {}, expected more than 0", o.capacity_factor);
    if (!(o.noise_std >= 0)) fail(ErrorKind::config, "gate soft_moe: noise_std = {}, expected 0 or more", o.noise_std);
    if (o.tokens > 0) slots_ = std::max<int64_t>(1, std::llround(o.capacity_factor * static_cast<double>(o.tokens) / static_cast<double>(num_experts_)));
    auto phi = torch::empty({num_experts_ * slots_, s.d_model});
    RandomStream(s.seed).at("router", static_cast<uint64_t>(s.layer)).fill_normal(phi.data_ptr<float>(), phi.numel());
    phi_ = register_parameter("phi", phi / std::sqrt(static_cast<double>(s.d_model)));
    scale_ = register_parameter("scale", torch::ones({1}));
  }

  Routing route(const GateInput& input) override {
    const auto sequences = sequences_of(input, "gate soft_moe");
    const auto group_of = sequences.of.masked_fill(sequences.of == sequences.count, -1);  // padding is in none
    const auto z = affinity(input);                                                       // [T, E p]
    const GroupRows rows(group_of, sequences.count);
    const auto by_group = rows.pack(z, -std::numeric_limits<float>::infinity());  // [G, m, E p]
    const auto combine = at::softmax(z, 1) * (group_of >= 0).unsqueeze(1).to(z.scalar_type());
    return {.choice = SoftSlots{rows.unpack(at::softmax(by_group, 1)), combine, group_of, sequences.count}};
  }

  double experts_per_token() const override {
    return o_.tokens > 0 ? static_cast<double>(num_experts_ * slots_) / static_cast<double>(o_.tokens) : 1;
  }
  bool looks_ahead() const override { return true; }

 private:
  torch::Tensor affinity(const GateInput& input) const {
    const auto unit_length = [&](const torch::Tensor& rows) {
      constexpr double kEps = 1e-6;
      return o_.normalise ? rows * (rows.square().sum(-1, /*keepdim=*/true) + kEps).rsqrt() : rows;
    };
    const auto x = input.hidden.scalar_type() == torch::kFloat64 ? input.hidden : input.hidden.to(torch::kFloat32);
    const auto z = ops::linear(unit_length(x).contiguous(), unit_length(phi_).contiguous(), /*exact=*/true) * scale_;
    if (!input.training || o_.noise_std == 0) return z;
    auto noise = torch::empty(z.sizes(), torch::kFloat32);
    input.random.at("soft_moe").fill_normal(noise.data_ptr<float>(), noise.numel(), static_cast<uint64_t>(input.first_token * z.size(1)));
    return z + noise * o_.noise_std;
  }

  Options o_;
  int64_t num_experts_, slots_;
  torch::Tensor phi_, scale_;  // [E p, d], [1]
};

}  // namespace

GateEntry gate_soft_moe() {
  return plug_in<SoftMoeGate, GateEntry>("soft_moe", "arXiv:2308.00951", "experts work on weighted means of the tokens of a sequence");
}

}  // namespace switchyard
