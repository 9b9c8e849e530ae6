// E(x) = relu(x W_in^T) W_out^T. Source: arXiv:2006.16668.
#include "core/ffn_bank.h"

namespace switchyard {

ExpertEntry expert_relu() { return ffn_entry("relu", "arXiv:2006.16668", "two matrices and ReLU", "relu", false); }

}  // namespace switchyard
