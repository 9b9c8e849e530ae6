#include "kernels/activation_functions.inl"
#include "kernels/packed/rows.h"

namespace switchyard::kernels::SW_ISA {
namespace {

using Words = uint32_t __attribute__((vector_size(kLanes * 4)));
using HalfWords = uint16_t __attribute__((vector_size(kLanes * 2)));
using HalfWordsAnywhere = uint16_t __attribute__((vector_size(kLanes * 2), aligned(1), may_alias));
using Bytes = int8_t __attribute__((vector_size(kLanes)));
using BytesAnywhere = int8_t __attribute__((vector_size(kLanes), aligned(1), may_alias));

void to_float32(const float* x, int64_t k, int64_t steps, char* out) noexcept {
  __builtin_memcpy(out, x, static_cast<size_t>(4 * k));
  __builtin_memset(out + 4 * k, 0, static_cast<size_t>(4 * (steps - k)));
}

inline HalfWords rounded_to_bf16(Floats x) {
  const Words bits = reinterpret_cast<Words>(x), up = bits + (bits >> 16 & 1) + 0x7fff;
  const Words kept = x == x ? up : bits | 0x00400000;  // keep NaN when its payload is cut off
  return __builtin_convertvector(kept >> 16, HalfWords);
}

// steps is a multiple of 32: the last vector, if it is partial, ends within the row.
void to_bfloat16(const float* x, int64_t k, int64_t steps, char* out) noexcept {
  int64_t p = 0;
  for (; p + kLanes <= k; p += kLanes) *reinterpret_cast<HalfWordsAnywhere*>(out + 2 * p) = rounded_to_bf16(load(x + p));
  if (p < k) {
    *reinterpret_cast<HalfWordsAnywhere*>(out + 2 * p) = rounded_to_bf16(load_first(x + p, k - p));
    p += kLanes;
  }
  if (p < steps) __builtin_memset(out + 2 * p, 0, static_cast<size_t>(2 * (steps - p)));
}

// Keeps a product from being fused into the addition that rounds it, which would round ties otherwise in some variants.
inline Floats rounded_product(Floats x, Floats y) {
  Floats product = x * y;
#if defined(__SSE2__)
  __asm__("" : "+v"(product));
#endif
  return product;
}

inline Floats in_group(const float* x, int64_t p, int64_t end) { return p + kLanes <= end ? load(x + p) : p < end ? load_first(x + p, end - p) : Floats{}; }

constexpr float kLeastScaled = 1e-36f;  // below, 127 / x is infinite: such numbers count as zeros

void quantise(const float* x, int64_t k, int64_t steps, int64_t group, int weight_offset, char* out, float* scales, int32_t* offsets) noexcept {
  for (int64_t begin = 0, g = 0; begin < steps; begin += group, ++g) {
    const int64_t end = begin + group < steps ? begin + group : steps, filled = end < k ? end : k;
    Floats largest{};
    for (int64_t p = begin; p < filled; p += kLanes) {
      const Floats v = in_group(x, p, filled);
      largest = max(abs(v), largest);
      largest = v == v ? largest : v;  // max passes over NaN
    }
    float most = max_lanes(largest);
    for (int lane = 0; lane < kLanes; ++lane)
      if (largest[lane] != largest[lane]) most = largest[lane];
    const float scale = most / 127.0f;
    const bool usable = most >= kLeastScaled && most <= 3.4e38f;  // NaN and infinity have no reciprocal; the scale tells of them
    const Floats inverse = splat(usable ? 127.0f / most : 0.0f);
    Ints sum{};
    for (int64_t p = begin; p < end; p += kLanes) {
      const Floats v = usable ? in_group(x, p, filled) : Floats{};
      const Floats whole = (rounded_product(v, inverse) + kRoundingShift) - kRoundingShift;  // |v| <= most: at most 127
      const Ints q = __builtin_convertvector(whole, Ints);
      sum += q;
      *reinterpret_cast<BytesAnywhere*>(out + p) = __builtin_convertvector(q, Bytes);
    }
    int32_t total = 0;
    for (int lane = 0; lane < kLanes; ++lane) total += sum[lane];
    scales[g] = most == most && most <= 3.4e38f ? scale : __builtin_nanf("");
    offsets[g] = -weight_offset * total;
  }
}

// steps is a multiple of 16. From the front: what is written never reaches what is still to be read.
void widen(int64_t steps, char* out) noexcept {
  using SixteenBytes = int8_t __attribute__((vector_size(16)));
  using SixteenBytesAnywhere = int8_t __attribute__((vector_size(16), aligned(1), may_alias));
  using SixteenShorts = int16_t __attribute__((vector_size(32)));
  using SixteenShortsAnywhere = int16_t __attribute__((vector_size(32), aligned(1), may_alias));
  constexpr SixteenBytes kEvenFirst = {0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15};
  for (int64_t p = 0; p < steps; p += 16) {
    const SixteenBytes q = *reinterpret_cast<const SixteenBytesAnywhere*>(out + steps + p);
    *reinterpret_cast<SixteenShortsAnywhere*>(out + 2 * p) = __builtin_convertvector(__builtin_shuffle(q, kEvenFirst), SixteenShorts);
  }
}

// write(r, i, the activations of columns i ... of row r)
template <class Write>
[[gnu::always_inline]] inline void for_activations(Activation kind, bool gated, int64_t rows, int64_t width, const float* c, int64_t ldc, Write write) {
  with_activation(kind, [&](auto phi) {
    using Phi = decltype(phi);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t strip = 0; strip < width; strip += 16)
        for (int64_t j = 0; j < 16; j += kLanes) {
          const float* from = c + r * ldc + (gated ? 2 * strip : strip) + j;
          const Floats value = Phi::at(load(from)).value;
          write(r, strip + j, gated ? value * load(from + 16) : value);
        }
  });
}

void activate(Activation kind, bool gated, int64_t rows, int64_t width, const float* c, int64_t ldc, float* h, int64_t ldh) noexcept {
  for_activations(kind, gated, rows, width, c, ldc, [&](int64_t r, int64_t i, Floats value) { store(h + r * ldh + i, value); });
}

void activate_to_bfloat16(Activation kind, bool gated, int64_t rows, int64_t width, const float* c, int64_t ldc, char* h, int64_t stride) noexcept {
  for_activations(kind, gated, rows, width, c, ldc, [&](int64_t r, int64_t i, Floats value) {
    *reinterpret_cast<HalfWordsAnywhere*>(h + r * stride + 2 * i) = rounded_to_bf16(value);
  });
}

// The rows of y lie anywhere: each is asked for while the row before it is added.
void add(int64_t rows, int64_t width, const float* c, int64_t ldc, const int64_t* index, const int64_t* weight_index, const float* weights,
         float* y, int64_t ldy) noexcept {
  for (int64_t r = 0; r < rows; ++r) {
    const float* from = c + r * ldc;
    float* to = y + index[r] * ldy;
    const float* next = y + index[r + 1 < rows ? r + 1 : r] * ldy;
    const Floats weight = splat(weights ? weights[weight_index[r]] : 1.0f);
    int64_t i = 0;
    for (; i + kLanes <= width; i += kLanes) {
      __builtin_prefetch(next + i, 1);
      store(to + i, load(to + i) + weight * load(from + i));
    }
    if (const int64_t rest = width - i; rest > 0) store_first(to + i, load_first(to + i, rest) + weight * load_first(from + i, rest), rest);
  }
}

}  // namespace

namespace packed_rows {
extern const packed::RowKernels kKernels;
const packed::RowKernels kKernels{to_float32, to_bfloat16, quantise, widen, activate, activate_to_bfloat16, add};
}  // namespace packed_rows

}  // namespace switchyard::kernels::SW_ISA
