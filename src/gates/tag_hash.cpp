// Random routed experts in two levels: the tag (domain) of a token names a group of experts, a fixed random table of that group the
// expert inside it. Weight 1, no parameters, no balance loss.
//   e = tag * E/G + table[tag][token id]
// Tables are dealt: each expert of a group gets as many ids as any other, +-1. Each layer and group has its own, drawn once and
// saved with the model as a buffer. A group with its row of the table is a whole one-domain model.
// Source: PanGu-Sigma, arXiv:2303.10845 section 3.3. One level and other tables: hash.cpp.
#include "core/call_tokens.h"
#include "core/token_tables.h"
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

class TagHash final : public Gate {
 public:
  struct Options {
    int64_t groups = 1, vocab_size = 0;
    template <class V> void fields(V&& v) {
      v("groups", groups, "groups of experts, one per tag");
      v("vocab_size", vocab_size, "token ids of the table");
    }
  };

  TagHash(const Options& o, const GateShape& s) : o_(o), layer_(s.layer) {
    if (o.groups < 1 || s.num_experts % o.groups != 0)
      fail(ErrorKind::config, "gate tag_hash: groups = {} in layers.{}.ffn, expected a divisor of num_experts = {}", o.groups, s.layer, s.num_experts);
    if (o.vocab_size < 1) fail(ErrorKind::config, "gate tag_hash: vocab_size = {} in layers.{}.ffn, expected the number of token ids", o.vocab_size, s.layer);
    per_group_ = s.num_experts / o.groups;
    const auto stream = RandomStream(s.seed).at("tag_hash", static_cast<uint64_t>(s.layer));
    std::vector<torch::Tensor> rows;
    for (int64_t g = 0; g < o.groups; ++g)
      rows.push_back(torch::tensor(token_tables::dealt_table(o.vocab_size, per_group_, stream.at("group", static_cast<uint64_t>(g))), torch::kFloat32));
    table_ = register_buffer("table", at::stack(rows));  // [G, V], 0 .. E/G - 1
  }

  Routing route(const GateInput& in) override {
    if (!in.token_ids.defined())
      fail(ErrorKind::usage, "gate 'tag_hash' in layers.{}.ffn needs token_ids, and the call has none: pass GateInput::token_ids", layer_);
    const auto tags = checked_tags(in, o_.groups, "tag_hash", layer_);
    const auto outside = (in.token_ids < 0) | (in.token_ids >= o_.vocab_size);
    if (outside.any().item<bool>())
      fail(ErrorKind::config, "gate 'tag_hash' in layers.{}.ffn: token id {}, expected 0 to vocab_size - 1 = {}", layer_,
           in.token_ids.index({outside})[0].item<int64_t>(), o_.vocab_size - 1);
    const auto inside = table_.view({-1}).index_select(0, tags * o_.vocab_size + in.token_ids).to(torch::kInt64);
    const auto ids = (tags * per_group_ + inside).unsqueeze(1).contiguous();
    const auto dtype = in.hidden.scalar_type() == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32;
    return {.choice = TokenChoice{ids, torch::ones(ids.sizes(), dtype)}};
  }

  double experts_per_token() const override { return 1; }

 private:
  Options o_;
  int64_t layer_, per_group_ = 1;
  torch::Tensor table_;
};

}  // namespace

GateEntry gate_tag_hash() {
  return plug_in<TagHash, GateEntry>("tag_hash", "arXiv:2303.10845", "the tag names a group of experts, a fixed random table the expert inside it");
}

}  // namespace switchyard
