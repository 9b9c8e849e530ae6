// E(x) = (sigmoid(x W_g^T) * x W_u^T) W_out^T. Source: arXiv:1612.08083, as a feed-forward network arXiv:2002.05202.
#include "core/ffn_bank.h"

namespace switchyard {

ExpertEntry expert_glu() { return ffn_entry("glu", "arXiv:2002.05202", "three matrices, sigmoid gate", "sigmoid", true); }

}  // namespace switchyard
