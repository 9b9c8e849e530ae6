// Communication balance:  L = sum_d f''_d P''_d  over D devices of E / D consecutive experts, tokens sent to at most M
//   f''_d = D / (M T) * number of tokens with at least one choice on d (no gradient),  P''_d = sum of the mean p of its experts
// Even use of the devices gives 1 (when every token uses M of them). Per sequence, then the mean, as in the paper; one
// sequence without sequence ids. Source: DeepSeek-V2, arXiv:2405.04434 equations 29 to 31 (weight 0.02).
#include "core/sequence_means.h"
#include "switchyard/error.h"
#include "switchyard/loss.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

class CommunicationBalance final : public LossTerm {
 public:
  struct Options {
    int64_t devices = 8, keep = 3;
    template <class V> void fields(V&& v) {
      v("devices", devices, "equal groups of consecutive experts");
      v("keep", keep, "devices that a token may use");
    }
  };

  explicit CommunicationBalance(const Options& o) : o_(o) {
    if (o.devices < 1 || o.keep < 1 || o.keep > o.devices)
      fail(ErrorKind::config, "loss communication_balance: devices = {}, keep = {}, expected 1 <= keep <= devices", o.devices, o.keep);
  }

  torch::Tensor value(const RoutingStats& s) const override {
    if (!s.scores.probs.defined() || !s.expert_ids.defined())
      fail(ErrorKind::config, "loss communication_balance: in layer {} tokens do not choose experts by probability", s.layer);
    if (s.num_experts % o_.devices != 0)
      fail(ErrorKind::config, "loss communication_balance: devices = {} does not divide num_experts = {} of layer {}", o_.devices, s.num_experts, s.layer);
    if (s.num_tokens == 0) return s.scores.probs.sum();
    const int64_t size = s.num_experts / o_.devices;
    const auto sent = torch::zeros({s.num_tokens, o_.devices + 1}, torch::kFloat32)
                          .scatter_(1, at::where(s.expert_ids >= 0, at::floor_divide(s.expert_ids, size), torch::full({}, o_.devices, torch::kInt64)), 1.0)
                          .slice(1, 0, o_.devices);                                              // [T, D]
    const auto p = s.scores.probs.view({s.num_tokens, o_.devices, size}).sum(-1);                // [T, D]
    const SequenceMeans sequences(s);
    const double scale = static_cast<double>(o_.devices) / static_cast<double>(o_.keep);
    return scale * (sequences.mean(sent) * sequences.mean(p)).sum(1).mean();
  }

 private:
  Options o_;
};

}  // namespace

LossEntry loss_communication_balance() {
  return plug_in<CommunicationBalance, LossEntry>("communication_balance", "arXiv:2405.04434", "even numbers of tokens sent to each device");
}

}  // namespace switchyard
