// One unit per tag: a task, a language, a modality.
//   unit = "embedding"  a learned vector per tag, drawn from N(0, 1): the content of tokens does not matter
//   unit = "mean"       the mean of the tokens of the call that carry the tag
// With embeddings the plan is constant per tag, so that the experts of one tag are a network of their own
// (layer/tag_network.h). Sources: task-level gate, arXiv:2110.03742 section 3; embeddings of modality or task,
// arXiv:2206.04674 section 3.2.
#include "core/sequences.h"
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

namespace switchyard::gates {
namespace {

class TagPool final : public Pooler {
 public:
  struct Options {
    int64_t tags = 0;
    std::string unit = "embedding";
    template <class V> void fields(V&& v) {
      v("tags", tags, "how many tags there are: 0 .. tags - 1");
      v("unit", unit, "embedding: a learned vector per tag; mean: the mean of its tokens");
    }
  };

  TagPool(const Options& o, const GateShape& s) : o_(o) {
    if (o.tags < 1) fail(ErrorKind::config, "pool tag: tags = {} in layers.{}.ffn, expected at least 1", o.tags, s.layer);
    if (o.unit != "embedding" && o.unit != "mean") fail(ErrorKind::config, "pool tag: unit = '{}', expected embedding or mean", o.unit);
    if (o.unit == "mean") return;
    auto table = torch::empty({o.tags, s.d_model});
    RandomStream(s.seed).at("tag_embedding", static_cast<uint64_t>(s.layer)).fill_normal(table.data_ptr<float>(), table.numel());
    embedding_ = register_parameter("embedding", table);
  }

  Pooled pool(const GateInput& input) override {
    if (!input.tags.defined()) fail(ErrorKind::usage, "pool tag: needs GateInput::tags, one tag for every token");
    // Padding is the last unit.
    auto tag = input.tags;
    if (input.valid.defined()) tag = tag.masked_fill(~input.valid, o_.tags);
    const auto wrong = (input.tags < 0) | (input.tags >= o_.tags);
    const auto counted = input.valid.defined() ? wrong & input.valid : wrong;
    if (counted.any().item<bool>())
      fail(ErrorKind::usage, "pool tag: tag {} is outside 0 .. {}", input.tags.index({counted})[0].item<int64_t>(), o_.tags - 1);
    const auto present = at::bincount(tag, {}, o_.tags + 1) > 0;
    present[o_.tags] = false;
    if (!embedding_.defined()) return {means_of(input.hidden, tag, o_.tags + 1), tag, present};
    return {at::cat({embedding_, torch::zeros({1, embedding_.size(1)}, embedding_.options().requires_grad(false))}), tag, present};
  }
  bool looks_ahead() const override { return o_.unit == "mean"; }

 private:
  Options o_;
  torch::Tensor embedding_;  // [tags, d]
};

}  // namespace

PoolEntry pool_tag() { return plug_in<TagPool, PoolEntry>("tag", "arXiv:2110.03742", "a learned vector per tag, or the mean of its tokens"); }

}  // namespace switchyard::gates
