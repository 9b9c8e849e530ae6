// E(x) = (gelu(x W_g^T) * x W_u^T) W_out^T. Source: arXiv:2002.05202.
#include "core/ffn_bank.h"

namespace switchyard {

ExpertEntry expert_geglu() { return ffn_entry("geglu", "arXiv:2002.05202", "three matrices, GELU gate", "gelu", true); }

}  // namespace switchyard
