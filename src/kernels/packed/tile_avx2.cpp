// Packed strips with AVX2 and FMA: a strip's line is two vectors; 6 rows by one strip in 12 registers.
#include <immintrin.h>

#include "kernels/packed/tile_vectors.h"

namespace switchyard::kernels::packed {
namespace {

struct Avx2 {
  using Float = __m256;
  using Int = __m256i;
  static constexpr int kWidth = 8, kRegisters = 16, kRows = 6, kIntRows = 3, kIntBeside = 4;

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

  // 16-bit sums of two products cannot overflow for nibbles; bytes are taken as two nibbles.
  static Int dot_nibbles(Int sum, Int nibbles, Int x) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(nibbles, x), _mm256_set1_epi16(1)));
  }
  static Int dot_bytes(Int sum, Int bytes, Int x) {
    const Int high = _mm256_madd_epi16(_mm256_maddubs_epi16(high_nibbles(bytes), x), _mm256_set1_epi16(16));
    return dot_nibbles(_mm256_add_epi32(sum, high), low_nibbles(bytes), x);
  }
};

}  // namespace

const TileKernel kAvx2Tiles[4] = {{RowForm::float32, multiply<Avx2, Float32Tile<Avx2>>},
                                  {RowForm::float32, multiply<Avx2, Bfloat16Tile<Avx2>>},
                                  {RowForm::int8, multiply<Avx2, IntegerTile<Avx2, WeightFormat::int8>>},
                                  {RowForm::int8, multiply<Avx2, IntegerTile<Avx2, WeightFormat::int4>>}};

}  // namespace switchyard::kernels::packed
