// E(x) = gelu(x W_in^T) W_out^T with the tanh form of GELU (arXiv:1606.08415 section 2), which checkpoints of the GPT-2 line
// were trained with; it differs from the exact form by less than 5e-4.
#include "core/ffn_bank.h"

namespace switchyard {

ExpertEntry expert_gelu_tanh() { return ffn_entry("gelu_tanh", "arXiv:1606.08415", "two matrices and GELU by its tanh form", "gelu_tanh", false); }

}  // namespace switchyard
