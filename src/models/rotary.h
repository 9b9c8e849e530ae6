// Tables of the rotary position angles (arXiv:2104.09864, section 3.2.2):
//   angle[p, i] = p * theta^(-2i / c),  i = 0 .. c/2 - 1
#pragma once

#include <torch/types.h>

namespace switchyard {

struct RotaryTable {
  torch::Tensor cos, sin;  // [max_positions, c/2] float32

  RotaryTable() = default;
  RotaryTable(int64_t max_positions, int64_t head_dim, double theta);
};

}  // namespace switchyard
