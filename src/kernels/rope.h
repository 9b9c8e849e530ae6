// Rotary position embedding in the rotate-half layout (Su et al., arXiv:2104.09864; halves instead of neighbouring pairs,
// as Hugging Face stores its weights): for i < rotary_dim / 2, with half = rotary_dim / 2 and p the position,
//
//   x'[i]        = x[i] cos[p,i] - x[i + half] sin[p,i]
//   x'[i + half] = x[i + half] cos[p,i] + x[i] sin[p,i]
//
// The rest of a head, from rotary_dim on, passes through.
#pragma once

#include <cstdint>

#include "kernels/strided.h"

namespace switchyard::kernels {

// cos and sin [max_positions, rotary_dim / 2] of p * theta^(-2i / rotary_dim), computed in double.
void rope_table(int64_t max_positions, int64_t rotary_dim, double theta, float* cos, float* sin);

struct RopeShape {
  int64_t batch, tokens, heads, head_dim;
  int64_t rotary_dim;  // even, at most head_dim
};

// Rotates x [B, S, heads, head_dim] in place. positions [B, S], each a row of the tables. `inverse` turns the other way:
// the backward pass is the inverse rotation of the gradient.
void rope_rotate(const RopeShape& shape, HeadRows<float> x, const int64_t* positions, const float* cos, const float* sin,
                 bool inverse);
void rope_rotate(const RopeShape& shape, HeadRows<float> x, const int32_t* positions, const float* cos, const float* sin,
                 bool inverse);

}  // namespace switchyard::kernels
