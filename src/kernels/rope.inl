#include "kernels/rope.h"
#include "kernels/simd.h"

namespace switchyard::kernels::SW_ISA {
namespace {

inline void rotate_head(float* head, int64_t half, const float* cos, const float* sin, float sign) {
  int64_t i = 0;
  for (; i + kLanes <= half; i += kLanes) {
    const Floats a = load(head + i), b = load(head + half + i), c = load(cos + i), s = load(sin + i) * sign;
    store(head + i, a * c - b * s);
    store(head + half + i, b * c + a * s);
  }
  for (; i < half; ++i) {
    const float a = head[i], b = head[half + i], s = sin[i] * sign;
    head[i] = a * cos[i] - b * s;
    head[half + i] = b * cos[i] + a * s;
  }
}

template <class Position>
inline void rotate(const RopeShape& shape, const HeadRows<float>& x, const Position* positions, const float* cos,
                   const float* sin, bool inverse) {
  const int64_t half = shape.rotary_dim / 2, tokens = shape.batch * shape.tokens;
#pragma omp parallel for schedule(static) if (tokens * shape.heads * half > 16384)
  for (int64_t n = 0; n < tokens; ++n) {
    const int64_t p = static_cast<int64_t>(positions[n]);
    float* token = x.data + n / shape.tokens * x.sequence_stride + n % shape.tokens * x.token_stride;
    for (int64_t h = 0; h < shape.heads; ++h)
      rotate_head(token + h * shape.head_dim, half, cos + p * half, sin + p * half, inverse ? -1.0f : 1.0f);
  }
}

}  // namespace

void rope_rotate_int64(const RopeShape& shape, HeadRows<float> x, const int64_t* positions, const float* cos,
                       const float* sin, bool inverse) noexcept {
  rotate(shape, x, positions, cos, sin, inverse);
}

void rope_rotate_int32(const RopeShape& shape, HeadRows<float> x, const int32_t* positions, const float* cos,
                       const float* sin, bool inverse) noexcept {
  rotate(shape, x, positions, cos, sin, inverse);
}

}  // namespace switchyard::kernels::SW_ISA
