// Rotary positions on the part of a head that they turn.
#pragma once

#include "switchyard/mixer.h"

namespace switchyard {

// x [B, S, H, c]: dimensions first .. first + dims - 1 of every head turn by the position of their token; dims 0 = none. Pairs are
// (i, i + dims / 2), or with `adjacent` (2i, 2i + 1), whose turned halves are left one behind the other: scores of queries and
// keys that were both turned so are the same (arXiv:2104.09864 section 3.2.2).
[[nodiscard]] torch::Tensor rotate_heads(const torch::Tensor& x, const CallContext& call, int64_t first, int64_t dims, bool adjacent);

}  // namespace switchyard
