// The experts at given ranks of each token, 1 = the best: ranks = [1, 2] is top-2, ranks = [2] the runner-up alone. The weak
// pass of self-contrast (arXiv:2405.14507 section 3) routes like this.
#include "core/ops.h"
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <set>
#include <vector>

namespace switchyard::gates {
namespace {

class Ranks final : public Selector {
 public:
  struct Options {
    std::vector<int64_t> ranks = {1};
    template <class V> void fields(V&& v) { v("ranks", ranks, "which of a token's experts, 1 = the best"); }
  };

  Ranks(const Options& o, const GateShape& s) {
    if (o.ranks.empty()) fail(ErrorKind::config, "select ranks: ranks is empty in layers.{}.ffn, expected numbers from 1 to num_experts = {}", s.layer, s.num_experts);
    for (const int64_t rank : o.ranks) {
      if (rank < 1 || rank > s.num_experts)
        fail(ErrorKind::config, "select ranks: {} in layers.{}.ffn, expected 1 to num_experts = {}", rank, s.layer, s.num_experts);
      columns_.push_back(rank - 1);
    }
    if (std::set<int64_t>(columns_.begin(), columns_.end()).size() != columns_.size()) fail(ErrorKind::config, "select ranks: a rank is there twice");
  }

  Selection select(Scored& s) override {
    const auto best = ops::top_k(s.ranked.detach(), *std::max_element(columns_.begin(), columns_.end()) + 1);
    return {best.index_select(1, torch::tensor(columns_, torch::kInt64))};
  }
  double experts_per_token() const override { return static_cast<double>(columns_.size()); }

 private:
  std::vector<int64_t> columns_;
};

}  // namespace

SelectEntry select_ranks() { return plug_in<Ranks, SelectEntry>("ranks", "arXiv:2405.14507", "the experts at given ranks of each token"); }

}  // namespace switchyard::gates
