// E(x) = (gelu(x W_g^T) * x W_u^T) W_out^T with the tanh form of GELU, as T5 v1.1 and Gemma have it. Source: arXiv:2002.05202.
#include "core/ffn_bank.h"

namespace switchyard {

ExpertEntry expert_geglu_tanh() { return ffn_entry("geglu_tanh", "arXiv:2002.05202", "three matrices, GELU gate by its tanh form", "gelu_tanh", true); }

}  // namespace switchyard
