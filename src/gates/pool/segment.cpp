// Segments of `length` tokens inside each sequence. The unit of segment k > 1 is the mean of segment k - 1, so that a token
// sees only what came before its own segment; the unit of segment 1 is its own mean, cut off from the gradient.
// Source: Lory, arXiv:2405.03133 section 3.1 (length 256).
//
// looks_ahead() is true because of segment 1 alone: its tokens are routed by tokens behind them. No gradient teaches the
// model to use that, and a causal model that accepts it says allow_lookahead = true.
#include "core/sequences.h"
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

namespace switchyard::gates {
namespace {

class SegmentPool final : public Pooler {
 public:
  struct Options {
    int64_t length = 256;
    template <class V> void fields(V&& v) { v("length", length, "tokens of a segment"); }
  };

  SegmentPool(const Options& o, const GateShape& s) : length_(o.length) {
    if (length_ < 1) fail(ErrorKind::config, "pool segment: length = {} in layers.{}.ffn, expected at least 1", length_, s.layer);
  }

  Pooled pool(const GateInput& input) override {
    const auto sequences = sequences_of(input, "pool segment");
    const auto number = at::floor_divide(places_in(sequences.of, sequences.with_padding()), length_);  // of the segment in its sequence
    const auto tokens = at::bincount(sequences.of, {}, sequences.with_padding()).slice(0, 0, sequences.count);
    const auto segments = at::floor_divide(tokens + (length_ - 1), length_);  // of each sequence
    const int64_t total = segments.sum().item<int64_t>(), units = total + (sequences.has_padding ? 1 : 0);
    // Where each sequence begins among the units; padding is the last unit.
    const auto first = at::cat({torch::zeros({1}, torch::kInt64), at::cumsum(segments, 0)});
    const auto unit = at::where(sequences.of < sequences.count, first.index_select(0, sequences.of) + number, torch::full({}, total, torch::kInt64));

    const auto means = means_of(input.hidden, unit, units);
    const auto opens = torch::zeros({units + 1}, torch::kBool).index_fill_(0, first, true).slice(0, 0, units);
    const auto before = means.index_select(0, (torch::arange(units, torch::kInt64) - 1).clamp_min(0));
    return {at::where(opens.unsqueeze(1), means.detach(), before), unit, torch::arange(units, torch::kInt64) < total};
  }
  bool looks_ahead() const override { return true; }

 private:
  int64_t length_;
};

}  // namespace

PoolEntry pool_segment() { return plug_in<SegmentPool, PoolEntry>("segment", "arXiv:2405.03133", "segments, each routed by the mean of the one before"); }

}  // namespace switchyard::gates
