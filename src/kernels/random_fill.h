// Many draws of a RandomStream at once. RandomStream::fill_uniform and fill_normal are defined here and not in base/, because
// here is where code exists per instruction set. Draws are those of uniform() and normal(), bit for bit, on every one of them.
#pragma once

#include <cstdint>

namespace switchyard::kernels {

inline constexpr int64_t kNormalBlock = 512;  // most draws that a variant makes at a time; a multiple of every vector

}  // namespace switchyard::kernels
