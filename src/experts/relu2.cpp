// E(x) = max(x W_in^T, 0)^2 W_out^T. Source: Primer, arXiv:2109.08668.
#include "core/ffn_bank.h"

namespace switchyard {

ExpertEntry expert_relu2() { return ffn_entry("relu2", "arXiv:2109.08668", "two matrices and squared ReLU", "relu2", false); }

}  // namespace switchyard
