// Units are vectors of attributes: the tag of a token is a number whose bit i says whether attribute i holds (modality of
// the token, modality of the task's source, causal or not, ...).
//   u(a) = LayerNorm(W a + b),  then GELU if `gelu`
// All 2^bits vectors are units, so that the plan is constant per vector. Source: attribute-level routing of
// Uni-Perceiver-MoE, arXiv:2206.04674 section 3.2 (8 attributes).
#include "core/ops.h"
#include "switchyard/error.h"
#include "switchyard/gate.h"

#include <ATen/ATen.h>

namespace switchyard::gates {
namespace {

class AttributePool final : public Pooler {
 public:
  struct Options {
    int64_t bits = 8;
    bool gelu = false;
    template <class V> void fields(V&& v) {
      v("bits", bits, "attributes; a tag is a number below 2^bits");
      v("gelu", gelu, "an activation behind the norm");
    }
  };

  AttributePool(const Options& o, const GateShape& s) : o_(o) {
    if (o.bits < 1 || o.bits > 12) fail(ErrorKind::config, "pool attributes: bits = {} in layers.{}.ffn, expected 1 to 12", o.bits, s.layer);
    auto w = torch::empty({s.d_model, o.bits});
    RandomStream(s.seed).at("attributes", static_cast<uint64_t>(s.layer)).fill_normal(w.data_ptr<float>(), w.numel());
    weight_ = register_parameter("weight", w);
    bias_ = register_parameter("bias", torch::zeros({s.d_model}));
    gain_ = register_parameter("gain", torch::ones({s.d_model}));
    offset_ = register_parameter("offset", torch::zeros({s.d_model}));
  }

  Pooled pool(const GateInput& input) override {
    if (!input.tags.defined()) fail(ErrorKind::usage, "pool attributes: needs GateInput::tags, one number of attribute bits for every token");
    const int64_t vectors = int64_t{1} << o_.bits;
    auto tag = input.tags;
    if (input.valid.defined()) tag = tag.masked_fill(~input.valid, 0);
    const auto wrong = (tag < 0) | (tag >= vectors);
    if (wrong.any().item<bool>())
      fail(ErrorKind::usage, "pool attributes: tag {} is outside 0 .. {} (bits = {})", tag.index({wrong})[0].item<int64_t>(), vectors - 1, o_.bits);
    const auto bit = at::__rshift__(torch::arange(vectors, torch::kInt64).unsqueeze(1), torch::arange(o_.bits, torch::kInt64)) & 1;
    const auto z = ops::linear(bit.to(weight_.scalar_type()), weight_, /*exact=*/true) + bias_;
    const auto u = at::layer_norm(z, {z.size(1)}, gain_, offset_);
    const auto counted = input.valid.defined() ? tag.index({input.valid}) : tag;
    return {o_.gelu ? at::gelu(u) : u, tag, at::bincount(counted, {}, vectors) > 0};
  }

 private:
  Options o_;
  torch::Tensor weight_, bias_, gain_, offset_;  // [d, bits], [d], [d], [d]
};

}  // namespace

PoolEntry pool_attributes() {
  return plug_in<AttributePool, PoolEntry>("attributes", "arXiv:2206.04674", "bits of the tag through a linear layer and a layer norm");
}

}  // namespace switchyard::gates
