#include "kernels/random_fill.h"
#include "kernels/simd.h"

namespace switchyard::kernels::SW_ISA {
namespace {

constexpr int64_t kPair = kLanes / 2;  // 64-bit lanes of a vector
typedef uint64_t Words __attribute__((vector_size(kLanes * 4)));
typedef double Doubles __attribute__((vector_size(kLanes * 4)));
typedef float HalfFloats __attribute__((vector_size(kLanes * 2)));
typedef float HalfFloatsAnywhere __attribute__((vector_size(kLanes * 2), aligned(4), may_alias));

inline Words words_of(Doubles x) { return reinterpret_cast<Words>(x); }
inline Doubles doubles_of(Words x) { return reinterpret_cast<Doubles>(x); }
inline Doubles constant(double x) { return x - Doubles{}; }
inline void store_half(float* p, Doubles x) { *reinterpret_cast<HalfFloatsAnywhere*>(p) = __builtin_convertvector(x, HalfFloats); }

// first, first + 1, ...
inline Words count_from(uint64_t first) {
  Words index;
  for (int lane = 0; lane < kPair; ++lane) index[lane] = first + static_cast<uint64_t>(lane);
  return index;
}

// The draw of RandomStream::bits. SSE2 has no product of 64-bit lanes: there one lane after the other is faster.
template <class T> inline T mix(T z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}
template <class T> inline T draw(uint64_t key, T index) { return mix(mix(key + index * 0x9E3779B97F4A7C15ull) + 0x9E3779B97F4A7C15ull); }
inline Words bits(uint64_t key, Words index) {
  if constexpr (kPair > 2) return draw(key, index);
  for (int lane = 0; lane < kPair; ++lane) index[lane] = draw(key, static_cast<uint64_t>(index[lane]));
  return index;
}

// x < 2^52 as a number: 2^52 + x has x in its low bits.
inline Doubles number(Words x) { return doubles_of(x | 0x4330000000000000ull) - 0x1p52; }
inline Doubles number53(Words x) { return number(x >> 1) * 2.0 + number(x & 1); }

inline Doubles sqrt(Doubles x) {
#if defined(__AVX512F__)
  return (Doubles)_mm512_maskz_sqrt_pd(0xff, (__m512d)x);
#elif defined(__AVX2__)
  return (Doubles)_mm256_sqrt_pd((__m256d)x);
#elif defined(__SSE2__)
  return (Doubles)_mm_sqrt_pd((__m128d)x);
#else
  for (int lane = 0; lane < kPair; ++lane) x[lane] = __builtin_sqrt(x[lane]);
  return x;
#endif
}

// ln x for normal x > 0, relative error below 1e-14.
inline Doubles log(Doubles x) {
  // x = 2^e m with m in [sqrt(1/2), sqrt(2)):  ln m = 2 atanh(s),  s = (m - 1) / (m + 1),  s^2 < 0.0295
  constexpr uint64_t kRootHalf = 0x3fe6a09e667f3bcdull, kBias = 1024;
  const Words shifted = words_of(x) - kRootHalf + (kBias << 52);
  const Doubles m = doubles_of((shifted & 0x000fffffffffffffull) + kRootHalf);
  const Doubles e = number(shifted >> 52) - static_cast<double>(kBias);
  const Doubles s = (m - 1.0) / (m + 1.0), s2 = s * s;
  Doubles p = constant(2.0 / 19);
#pragma GCC unroll 9
  for (int n = 17; n > 0; n -= 2) p = p * s2 + 2.0 / n;
  return p * s + e * 0.6931471805599453;
}

// sin(2 pi y) for |y| <= 1/4, absolute error below 1e-14: the series up to the 19th power.
inline Doubles sin_turn(Doubles y) {
  const Doubles x = y * 6.283185307179586, x2 = -(x * x);
  Doubles p = constant(1.0);
#pragma GCC unroll 9
  for (int n = 18; n > 0; n -= 2) p = p * (x2 * (1.0 / (n * (n + 1)))) + 1.0;
  return p * x;
}

inline Doubles abs(Doubles x) { return doubles_of(words_of(x) & 0x7fffffffffffffffull); }

}  // namespace

void uniform_draws(uint64_t key, uint64_t first, int64_t n, float* out) noexcept {
  Words index = count_from(first);
  int64_t i = 0;
  for (; i + kPair <= n; i += kPair, index += static_cast<uint64_t>(kPair)) store_half(out + i, number(bits(key, index) >> 40) * 0x1p-24);
  if (i == n) return;
  float rest[kPair];
  store_half(rest, number(bits(key, index) >> 40) * 0x1p-24);
  for (int64_t lane = 0; i < n; ++i, ++lane) out[i] = rest[lane];
}

// The true draw is within `error` of ours. Where both ends round to the same float, that is the draw.
int64_t normal_draws(uint64_t key, uint64_t first, int64_t n, float* out, int64_t* unsure) noexcept {
  float low[kNormalBlock], high[kNormalBlock];
  Words index = count_from(first);
  for (int64_t i = 0; i < n; i += kPair, index += static_cast<uint64_t>(kPair)) {
    const Doubles u = (number53(bits(key, index + index) >> 11) + 0.5) * 0x1p-53, turn = number53(bits(key, index + index + 1) >> 11) * 0x1p-53;
    const Doubles radius = sqrt(log(u) * -2.0);
    const Doubles value = radius * -sin_turn(0.25 - abs(turn - 0.5));  // cos(2 pi turn) = -cos(2 pi (turn - 1/2))
    const Doubles error = radius * 1e-12 + 1e-30;
    store_half(low + i, value - error);
    store_half(high + i, value + error);
  }
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) {
    out[i] = low[i];
    unsure[count] = i;
    count += low[i] == high[i] ? 0 : 1;
  }
  return count;
}

}  // namespace switchyard::kernels::SW_ISA
