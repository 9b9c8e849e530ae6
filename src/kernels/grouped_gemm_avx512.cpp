// Grouped product with AVX-512: a 14 x 32 tile of C in 28 registers.
#include <immintrin.h>

#include "kernels/grouped_gemm_fma.h"
#include "kernels/transpose_avx512.h"

namespace switchyard::kernels::gemm {
namespace {

struct Avx512 {
  using Type = __m512;
  static constexpr int kWidth = 16, kRows = 14;
  static __mmask16 first(int64_t n) { return static_cast<__mmask16>((1u << n) - 1); }
  static Type zero() { return _mm512_setzero_ps(); }
  static Type load(const float* p) { return _mm512_loadu_ps(p); }
  static Type load_part(const float* p, int64_t n) { return _mm512_maskz_loadu_ps(first(n), p); }
  static void store(float* p, Type x) { _mm512_storeu_ps(p, x); }
  static void store_part(float* p, int64_t n, Type x) { _mm512_mask_storeu_ps(p, first(n), x); }
  static Type broadcast(const float* p) { return _mm512_set1_ps(*p); }
  static Type fma(Type a, Type b, Type c) { return _mm512_fmadd_ps(a, b, c); }
  static void transpose(Type (&square)[16]) { transpose_16x16(square); }

  static Type round_bf16(Type x) {
    const __m512i bits = _mm512_castps_si512(x), upper = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    const __m512i kept = _mm512_mask_or_epi32(up, nan, bits, _mm512_set1_epi32(0x00400000));
    return _mm512_castsi512_ps(_mm512_and_si512(kept, upper));
  }
};

}  // namespace

const BlockKernel kAvx512F32 = fma_kernel<Avx512, false>();
const BlockKernel kAvx512Bf16 = fma_kernel<Avx512, true>();

}  // namespace switchyard::kernels::gemm
