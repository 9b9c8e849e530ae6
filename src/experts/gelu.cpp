// E(x) = gelu(x W_in^T) W_out^T, the exact (erf) form. Source: arXiv:1606.08415.
#include "core/ffn_bank.h"

namespace switchyard {

ExpertEntry expert_gelu() { return ffn_entry("gelu", "arXiv:1606.08415", "two matrices and GELU (erf)", "gelu", false); }

}  // namespace switchyard
