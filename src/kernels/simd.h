// Vectors of float as wide as the instruction set that the including file is compiled for: 16 lanes with AVX-512, 8 with
// AVX2, else 4. Built on the vector extensions of GCC and Clang; intrinsics only where those say too little.
// To be included by .inl files alone (see per_isa.h): all names live in an unnamed namespace inside SW_ISA.
#pragma once

#ifndef SW_ISA
#error "simd.h is for .inl files: define SW_ISA first (kernels/per_isa.h)"
#endif

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include <cstdint>

namespace switchyard::kernels::SW_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float Floats __attribute__((vector_size(kLanes * 4)));
typedef int32_t Ints __attribute__((vector_size(kLanes * 4)));
typedef float FloatsAnywhere __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));
typedef int32_t IntsAnywhere __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

inline Floats load(const float* p) { return *reinterpret_cast<const FloatsAnywhere*>(p); }
inline void store(float* p, Floats x) { *reinterpret_cast<FloatsAnywhere*>(p) = x; }
inline Ints load_ints(const int32_t* p) { return *reinterpret_cast<const IntsAnywhere*>(p); }
inline Floats splat(float x) { return x - Floats{}; }  // minus: x + 0 is not x for x = -0
inline Ints splat_int(int32_t x) { return Ints{} + x; }
inline Ints bits_of(Floats x) { return reinterpret_cast<Ints>(x); }
inline Floats from_bits(Ints x) { return reinterpret_cast<Floats>(x); }
inline Floats select(Ints mask, Floats yes, Floats no) { return mask ? yes : no; }

// 0, 1, ... kLanes - 1
inline Ints lane_index() {
  Ints index;
  for (int lane = 0; lane < kLanes; ++lane) index[lane] = lane;
  return index;
}

// The first n < kLanes elements at p; the other lanes are zero, and their memory is not touched.
inline Floats load_first(const float* p, int64_t n) {
#if defined(__AVX512F__)
  return (Floats)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p);
#elif defined(__AVX2__)
  return (Floats)_mm256_maskload_ps(p, (__m256i)(lane_index() < static_cast<int32_t>(n)));
#else
  Floats x{};
  for (int64_t lane = 0; lane < n; ++lane) x[lane] = p[lane];
  return x;
#endif
}

inline void store_first(float* p, Floats x, int64_t n) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), (__m512)x);
#elif defined(__AVX2__)
  _mm256_maskstore_ps(p, (__m256i)(lane_index() < static_cast<int32_t>(n)), (__m256)x);
#else
  for (int64_t lane = 0; lane < n; ++lane) p[lane] = x[lane];
#endif
}

// max(x, y) and min(x, y); where either is NaN the result is y. (The unmasked AVX-512 intrinsics of GCC 12 warn about
// their own undefined operand; with all lanes chosen the masked ones give the same instruction.)
inline Floats max(Floats x, Floats y) {
#if defined(__AVX512F__)
  return (Floats)_mm512_maskz_max_ps(0xffff, (__m512)x, (__m512)y);
#elif defined(__AVX2__)
  return (Floats)_mm256_max_ps((__m256)x, (__m256)y);
#else
  return x > y ? x : y;
#endif
}

inline Floats min(Floats x, Floats y) {
#if defined(__AVX512F__)
  return (Floats)_mm512_maskz_min_ps(0xffff, (__m512)x, (__m512)y);
#elif defined(__AVX2__)
  return (Floats)_mm256_min_ps((__m256)x, (__m256)y);
#else
  return x < y ? x : y;
#endif
}

inline Floats abs(Floats x) { return from_bits(bits_of(x) & 0x7fffffff); }

inline Floats sqrt(Floats x) {
#if defined(__AVX512F__)
  return (Floats)_mm512_maskz_sqrt_ps(0xffff, (__m512)x);
#elif defined(__AVX2__)
  return (Floats)_mm256_sqrt_ps((__m256)x);
#elif defined(__SSE2__)
  return (Floats)_mm_sqrt_ps((__m128)x);
#else
  for (int lane = 0; lane < kLanes; ++lane) x[lane] = __builtin_sqrtf(x[lane]);
  return x;
#endif
}

// Lanes of a and b in turn, from their lower and from their upper halves.
#if defined(__AVX512F__)
inline Floats interleave_low(Floats a, Floats b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
inline Floats interleave_high(Floats a, Floats b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
#elif defined(__AVX2__)
inline Floats interleave_low(Floats a, Floats b) { return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
inline Floats interleave_high(Floats a, Floats b) { return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
#else
inline Floats interleave_low(Floats a, Floats b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); }
inline Floats interleave_high(Floats a, Floats b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); }
#endif

// x[i][j] becomes x[j][i]. One round of interleaving row i with row i + kLanes/2 rotates the bits of (i, j) by one place;
// log2(kLanes) rounds exchange i and j.
inline void transpose(Floats (&x)[kLanes]) {
#pragma GCC unroll 4
  for (int width = kLanes; width > 1; width /= 2) {
    Floats y[kLanes];
#pragma GCC unroll 8
    for (int i = 0; i < kLanes / 2; ++i) {
      y[2 * i] = interleave_low(x[i], x[i + kLanes / 2]);
      y[2 * i + 1] = interleave_high(x[i], x[i + kLanes / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) x[i] = y[i];
  }
}

// The sum of the lanes of x[i] in lane i: each round adds neighbours and halves the number of vectors.
inline Floats sum_each(Floats (&x)[kLanes]) {
#pragma GCC unroll 4
  for (int count = kLanes / 2; count > 0; count /= 2)
#pragma GCC unroll 8
    for (int i = 0; i < count; ++i) x[i] = interleave_low(x[i], x[i + count]) + interleave_high(x[i], x[i + count]);
  return x[0];
}

inline float sum_lanes(Floats x) {
#pragma GCC unroll 4
  for (int width = kLanes; width > 1; width /= 2) x = interleave_low(x, x) + interleave_high(x, x);
  return x[0];
}

inline float max_lanes(Floats x) {
#pragma GCC unroll 4
  for (int width = kLanes; width > 1; width /= 2) x = max(interleave_low(x, x), interleave_high(x, x));
  return x[0];
}

// Interpolates 2^r on [-1/2, 1/2] at Chebyshev points; p(0) = 1 exactly, so that whole powers are exact.
inline Floats exp2_polynomial(Floats r) {
  Floats p = splat(1.5453163e-4f);
  p = p * r + 1.3390863e-3f;
  p = p * r + 9.6180826e-3f;
  p = p * r + 5.5503571e-2f;
  p = p * r + 2.4022651e-1f;
  p = p * r + 6.9314719e-1f;
  return p * r + 1.0f;
}

// Adding it to |x| < 2^22 leaves no room for a fraction: the sum is x rounded to a whole number, which its low bits hold.
constexpr float kRoundingShift = 12582912.0f;

// 2^x for x <= 127; relative error below 2e-7. Results under 2^-125 are 0, NaN stays NaN.
inline Floats exp2_fast(Floats x) {
  const Floats at_least = max(splat(-126.0f), x);
  const Floats biased = at_least + (kRoundingShift + 127.0f);  // its low bits are the exponent field of the result
  const Floats r = at_least - (biased - (kRoundingShift + 127.0f));
  const Floats scaled = exp2_polynomial(r) * from_bits(bits_of(biased) << 23);
  return select(x < -125.0f, Floats{}, scaled);
}

// e^x for every x, relative error below 2e-7 (x - n ln 2 is taken in two parts): 0 and infinity at the ends, NaN stays NaN.
inline Floats exp_fast(Floats x) {
  const Floats bounded = min(splat(89.0f), max(splat(-104.0f), x));
  const Floats shifted = bounded * 1.44269504f + kRoundingShift, n = shifted - kRoundingShift;
  const Floats r = (bounded - n * 0.693145752f) - n * 1.42860677e-6f;
  const Ints whole = bits_of(shifted) - bits_of(splat(kRoundingShift)), half = whole >> 1;  // 2^n may need two factors
  return exp2_polynomial(r * 1.44269504f) * from_bits((half + 127) << 23) * from_bits((whole - half + 127) << 23);
}

// log2(x) for positive normal x, absolute error below 2e-7 * max(1, |log2 x|); NaN for NaN and infinity.
inline Floats log2_fast(Floats x) {
  // x = 2^e m with m in [sqrt(1/2), sqrt(2)):  log2 m = 2 atanh(s) / ln 2,  s = (m - 1) / (m + 1),  |s| < 0.172
  const Ints shifted = bits_of(x) - 0x3f3504f3;  // bits of sqrt(1/2)
  const Floats m = from_bits((shifted & 0x007fffff) + 0x3f3504f3);
  const Floats e = __builtin_convertvector(shifted >> 23, Floats);
  const Floats s = (m - 1.0f) / (m + 1.0f), s2 = s * s;
  Floats p = splat(2.8853901f / 9);
  p = p * s2 + 2.8853901f / 7;
  p = p * s2 + 2.8853901f / 5;
  p = p * s2 + 2.8853901f / 3;
  p = p * s2 + 2.8853901f;
  return p * s + e + (x - x);
}

}  // namespace
}  // namespace switchyard::kernels::SW_ISA
