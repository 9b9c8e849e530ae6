// E(x) = (x W_g^T * x W_u^T) W_out^T, no activation: E(a x) = a^2 E(x). Source: arXiv:2002.05202.
#include "core/ffn_bank.h"

namespace switchyard {

ExpertEntry expert_bilinear() { return ffn_entry("bilinear", "arXiv:2002.05202", "three matrices, the gate as it is", "identity", true); }

}  // namespace switchyard
