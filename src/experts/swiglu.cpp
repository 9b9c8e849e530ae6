// E(x) = (silu(x W_g^T) * x W_u^T) W_out^T. Source: arXiv:2002.05202.
#include "core/ffn_bank.h"

namespace switchyard {

ExpertEntry expert_swiglu() { return ffn_entry("swiglu", "arXiv:2002.05202", "three matrices, SiLU gate", "silu", true); }

}  // namespace switchyard
