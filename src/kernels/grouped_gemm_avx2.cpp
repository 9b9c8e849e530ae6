// Grouped product with AVX2 and FMA: a 6 x 16 tile of C in 12 registers.
#include <immintrin.h>

#include "kernels/grouped_gemm_fma.h"

namespace switchyard::kernels::gemm {
namespace {

struct Avx2 {
  using Type = __m256;
  static constexpr int kWidth = 8, kRows = 6;
  static constexpr int64_t kChunk = 384;
  static __m256i first(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static Type zero() { return _mm256_setzero_ps(); }
  static Type load(const float* p) { return _mm256_loadu_ps(p); }
  static Type load_part(const float* p, int64_t n) { return _mm256_maskload_ps(p, first(n)); }
  static void store(float* p, Type x) { _mm256_storeu_ps(p, x); }
  static void store_part(float* p, int64_t n, Type x) { _mm256_maskstore_ps(p, first(n), x); }
  template <int kLanes>
  static void store_first(float* p, Type x) {  // a masked store takes many times as long on some CPUs
    static_assert(kLanes == 6);
    _mm_storeu_ps(p, _mm256_castps256_ps128(x));
    _mm_storel_pi(reinterpret_cast<__m64*>(p + 4), _mm256_extractf128_ps(x, 1));
  }
  static Type broadcast(const float* p) { return _mm256_broadcast_ss(p); }
  static Type fma(Type a, Type b, Type c) { return _mm256_fmadd_ps(a, b, c); }

  static void transpose(Type (&row)[8]) {
    Type t[8];
    for (int i = 0; i < 4; ++i) {  // pairs of rows
      t[2 * i] = _mm256_unpacklo_ps(row[2 * i], row[2 * i + 1]);
      t[2 * i + 1] = _mm256_unpackhi_ps(row[2 * i], row[2 * i + 1]);
    }
    for (int i = 0; i < 2; ++i) {  // four rows: row[4i + j] holds columns j and j + 4
      row[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
      row[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
      row[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
      row[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
    }
    for (int j = 0; j < 4; ++j) {  // halves of 128 bits
      t[j] = _mm256_permute2f128_ps(row[j], row[4 + j], 0x20);
      t[4 + j] = _mm256_permute2f128_ps(row[j], row[4 + j], 0x31);
    }
    for (int j = 0; j < 8; ++j) row[j] = t[j];
  }

  using Bits = uint32_t __attribute__((vector_size(32)));
  static Type round_bf16(Type x) {
    const Bits bits = reinterpret_cast<Bits>(x);
    const Bits up = bits + (bits >> 16 & 1) + 0x7fff;
    const Bits kept = x == x ? up : bits | 0x00400000;  // keep NaN when its payload is cut off
    return reinterpret_cast<Type>(kept & 0xffff0000);
  }
};

}  // namespace

const BlockKernel kAvx2F32 = fma_kernel<Avx2, false>();
const BlockKernel kAvx2Bf16 = fma_kernel<Avx2, true>();

}  // namespace switchyard::kernels::gemm
