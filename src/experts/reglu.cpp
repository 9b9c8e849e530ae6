// E(x) = (relu(x W_g^T) * x W_u^T) W_out^T. Source: arXiv:2002.05202.
#include "core/ffn_bank.h"

namespace switchyard {

ExpertEntry expert_reglu() { return ffn_entry("reglu", "arXiv:2002.05202", "three matrices, ReLU gate", "relu", true); }

}  // namespace switchyard
