// Experts in D equal groups (devices, nodes) of consecutive ids; a token first keeps the `keep` groups with the best score,
// then its k best experts inside them: it is sent to at most `keep` devices.
//   group_score = "max"  the best expert of the group         DeepSeek-V2, arXiv:2405.04434 section 2.2.2
//   group_score = "sum"  the sum of its `best` best experts   DeepSeek-V3, arXiv:2412.19437 section 2.1.2 (best = 2)
#include "core/ops.h"
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

#include <limits>

namespace switchyard::gates {
namespace {

class GroupLimited final : public Selector {
 public:
  struct Options {
    int64_t k = 6, groups = 8, keep = 3, best = 2;
    std::string group_score = "max";
    template <class V> void fields(V&& v) {
      v("k", k, "experts per token");
      v("groups", groups, "equal groups of consecutive experts");
      v("keep", keep, "groups that a token may use");
      v("group_score", group_score, "max: of its best expert; sum: over its `best` best experts");
      v("best", best, "experts whose sum scores a group");
    }
  };

  GroupLimited(const Options& o, const GateShape& s) : o_(o) {
    const auto refuse = [&](const char* key, int64_t value, const std::string& expected) {
      fail(ErrorKind::config, "select group_limited: {} = {} in layers.{}.ffn, expected {}", key, value, s.layer, expected);
    };
    if (o.groups < 1 || s.num_experts % o.groups != 0) refuse("groups", o.groups, "a divisor of num_experts = " + std::to_string(s.num_experts));
    const int64_t size = s.num_experts / o.groups;
    if (o.keep < 1 || o.keep > o.groups) refuse("keep", o.keep, "1 to groups = " + std::to_string(o.groups));
    if (o.k < 1 || o.k > o.keep * size) refuse("k", o.k, "1 to the " + std::to_string(o.keep * size) + " experts of the kept groups");
    if (o.group_score != "max" && o.group_score != "sum")
      fail(ErrorKind::config, "select group_limited: group_score = '{}', expected max or sum", o.group_score);
    if (o.group_score == "sum" && (o.best < 1 || o.best > size)) refuse("best", o.best, "1 to the " + std::to_string(size) + " experts of a group");
  }

  Selection select(Scored& s) override {
    const auto units = s.ranked.size(0);
    const auto by_group = without_nan(s.ranked.detach()).view({units, o_.groups, s.ranked.size(1) / o_.groups});  // [U, D, E/D]
    const auto score = o_.group_score == "max" ? by_group.amax(-1) : std::get<0>(by_group.topk(o_.best, -1)).sum(-1);
    const auto kept = ops::top_k(score, o_.keep);  // [U, keep]
    const auto open = torch::zeros({units, o_.groups}, torch::kBool).scatter_(1, kept.clamp_min(0), kept >= 0);
    // Biased scores may be negative: what is closed must be -inf, not 0.
    const auto masked = by_group.masked_fill(~open.unsqueeze(-1), -std::numeric_limits<float>::infinity());
    return {ops::top_k(masked.view(s.ranked.sizes()).contiguous(), o_.k)};
  }
  double experts_per_token() const override { return static_cast<double>(o_.k); }

 private:
  // at::topk and at::amax take NaN for the largest number.
  static torch::Tensor without_nan(const torch::Tensor& x) { return x.masked_fill(x.isnan(), -std::numeric_limits<float>::infinity()); }

  Options o_;
};

}  // namespace

SelectEntry select_group_limited() {
  return plug_in<GroupLimited, SelectEntry>("group_limited", "arXiv:2405.04434", "the k best experts in the best groups of each token");
}

}  // namespace switchyard::gates
