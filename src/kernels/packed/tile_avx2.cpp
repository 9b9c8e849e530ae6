// Packed strips with AVX2 and FMA: a strip's line is two vectors; 6 rows by one strip in 12 registers. Bytes in a tile of their own.
#include <immintrin.h>

#include "kernels/packed/tile_vectors.h"

namespace switchyard::kernels::packed {
namespace {

struct Avx2 {
  using Float = __m256;
  using Int = __m256i;
  static constexpr int kWidth = 8, kRegisters = 16, kRows = 6, kIntRows = 3, kIntBeside = 2;

  static Float zero() { return _mm256_setzero_ps(); }
  static Float load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, Float x) { _mm256_storeu_ps(p, x); }
  static Float broadcast(const float* p) { return _mm256_broadcast_ss(p); }
  static Float fma(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
  static Float mul(Float a, Float b) { return _mm256_mul_ps(a, b); }
  static Int load_int(const char* p) { return _mm256_load_si256(reinterpret_cast<const Int*>(p)); }
  static Int broadcast_int(const char* p) {
    int32_t bytes;
    __builtin_memcpy(&bytes, p, 4);
    return _mm256_set1_epi32(bytes);
  }
  static Float to_float(Int x) { return _mm256_cvtepi32_ps(x); }
  static Float even_bf16(Int x) { return _mm256_castsi256_ps(_mm256_slli_epi32(x, 16)); }
  static Float odd_bf16(Int x) { return _mm256_castsi256_ps(_mm256_and_si256(x, _mm256_set1_epi32(static_cast<int>(0xffff0000u)))); }
  static Int low_nibbles(Int x) { return _mm256_and_si256(x, _mm256_set1_epi8(15)); }
  static Int high_nibbles(Int x) { return _mm256_and_si256(_mm256_srli_epi32(x, 4), _mm256_set1_epi8(15)); }
  static Float scales(const uint16_t* p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), 16));
  }

  // 16-bit sums of two products cannot overflow for nibbles.
  static Int dot_nibbles(Int sum, Int nibbles, Int x) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(nibbles, x), _mm256_set1_epi16(1)));
  }
};

// Bytes of weights as 16-bit numbers: steps 0 and 2 of a line, then 1 and 3.
struct Int8Tile {
  using Int = __m256i;
  static constexpr int kRows = 6;
  static constexpr int strips(int rows) { return rows == 1 ? 4 : rows == 2 ? 2 : 1; }

  // Assembly: around the intrinsics GCC 12 keeps many products, for which sums leave their registers, before it adds them.
  [[gnu::always_inline]] static void add(Int& sum, Int w, Int x) {
    Int product;
    __asm__("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(sum), "=&x"(product) : "x"(w), "x"(x));
  }

  // Two steps of a line. Few rows: one vector of weights at a time, else one row at a time.
  template <int R, int N, class Weights, class Row>
  [[gnu::always_inline]] static void add_pairs(Int (&sums)[R][N], Weights weights, Row row) {
    if constexpr (R > 2) {
      const Int w[N] = {weights(0), weights(1)};
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const Int x = row(r);
        add(sums[r][0], w[0], x);
        add(sums[r][1], w[1], x);
      }
    } else {
      const Int x[2] = {row(0), row(R - 1)};
#pragma GCC unroll 8
      for (int i = 0; i < N; ++i) {
        const Int w = weights(i);
#pragma GCC unroll 2
        for (int r = 0; r < R; ++r) add(sums[r][i], w, x[r]);
      }
    }
  }

  // c (+)= sums of group g, by their scales
  template <int R, int N>
  [[gnu::always_inline]] static void add_group(const TileCall& t, int64_t g, const char* w, bool add, const Int (&sums)[R][N], float* c) {
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) {
      const auto scale = Avx2::scales(reinterpret_cast<const uint16_t*>(w + i / 2 * t.strip_bytes + t.scales_at) + g * kStrip + i % 2 * 8);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        float* const to = c + r * t.ldc + i * 8;
        const auto before = add ? Avx2::load(to) : Avx2::zero();
        Avx2::store(to, Avx2::fma(Avx2::to_float(sums[r][i]), Avx2::mul(scale, Avx2::broadcast(t.rows.scales + r * t.rows.groups + g)), before));
      }
    }
  }

  template <int R, int S>
  static void run(const TileCall& t, const char* x, const char* w, float* c) {
    constexpr int N = 2 * S;
    for (int64_t begin = t.line0; begin < t.line1; begin += t.group_lines) {
      const int64_t g = begin / t.group_lines, end = begin + t.group_lines < t.line1 ? begin + t.group_lines : t.line1;
      prefetch_scales<S>(t, w, g);
      Int sums[R][N];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int i = 0; i < N; ++i) sums[r][i] = _mm256_set1_epi32(t.rows.offsets[r * t.rows.groups + g]);
      for (int64_t line = begin; line < end; ++line) {
        prefetch_weights<S>(t, w, line);
        const auto bytes = [&](int i) { return Avx2::load_int(w + line * kLineBytes + i / 2 * t.strip_bytes + i % 2 * 32); };
        const auto row = [&](int r, int pair) { return Avx2::broadcast_int(x + r * t.rows.stride + 8 * line + 4 * pair); };
        add_pairs(sums, [&](int i) { return _mm256_and_si256(bytes(i), _mm256_set1_epi16(255)); }, [&](int r) { return row(r, 0); });
        add_pairs(sums, [&](int i) { return _mm256_srli_epi16(bytes(i), 8); }, [&](int r) { return row(r, 1); });
      }
      add_group(t, g, w, t.add || begin > t.line0, sums, c);
    }
  }
};

}  // namespace

const TileKernel kAvx2Tiles[4] = {{RowForm::float32, multiply<Avx2, Float32Tile<Avx2>>},
                                  {RowForm::float32, multiply<Avx2, Bfloat16Tile<Avx2>>},
                                  {RowForm::int16_pairs, multiply<Avx2, Int8Tile>, 60},
                                  {RowForm::int8, multiply<Avx2, IntegerTile<Avx2, WeightFormat::int4>>}};

}  // namespace switchyard::kernels::packed
