// E(x) = (gelu(x W_g^T) * x W_u^T) W_out^T. Source: arXiv:2002.05202. With `tanh` GELU has the form of arXiv:1606.08415 section 2 that
// JAX takes by default: it differs from the exact one by less than 5e-4.
#include "core/ffn_bank.h"

namespace switchyard {
namespace {

struct GegluOptions : GatedFfnOptions {
  bool tanh = false;
  template <class V>
  void fields(V&& v) {
    GatedFfnOptions::fields(v);
    v("tanh", tanh, "GELU by its tanh form");
  }
};

FfnForm geglu(const GegluOptions& o) { return {.phi = o.tanh ? "gelu_tanh" : "gelu", .gated = true, .interleaved = o.interleaved}; }

}  // namespace

ExpertEntry expert_geglu() { return ffn_entry<GegluOptions>("geglu", "arXiv:2002.05202", "three matrices, GELU gate", geglu); }

}  // namespace switchyard
