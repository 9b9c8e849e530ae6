// Grouped product with AVX-512: a 14 x 32 tile of C in 28 registers.
#include <immintrin.h>

#include "kernels/grouped_gemm_fma.h"
#include "kernels/transpose_avx512.h"

namespace switchyard::kernels::gemm {
namespace {

struct Avx512 {
  using Type = __m512;
  static constexpr int kWidth = 16, kRows = 14;
  static constexpr int64_t kChunk = 512;  // packed A and B of a block: 1.1 MB, which the L2 cache of such CPUs holds
  static __mmask16 first(int64_t n) { return static_cast<__mmask16>((1u << n) - 1); }
  static Type zero() { return _mm512_setzero_ps(); }
  static Type load(const float* p) { return _mm512_loadu_ps(p); }
  static Type load_part(const float* p, int64_t n) { return _mm512_maskz_loadu_ps(first(n), p); }
  static void store(float* p, Type x) { _mm512_storeu_ps(p, x); }
  static void store_part(float* p, int64_t n, Type x) { _mm512_mask_storeu_ps(p, first(n), x); }
  template <int kLanes>
  static void store_first(float* p, Type x) { store_part(p, kLanes, x); }
  static Type broadcast(const float* p) { return _mm512_set1_ps(*p); }
  static Type fma(Type a, Type b, Type c) { return _mm512_fmadd_ps(a, b, c); }
  static void transpose(Type (&square)[16]) { transpose_16x16(square); }

  // Vector operators of the compiler: GCC 12 warns about its own unmasked shift intrinsic.
  using Bits = uint32_t __attribute__((vector_size(64)));
  static Type round_bf16(Type x) {
    const Bits bits = reinterpret_cast<Bits>(x);
    const Bits up = bits + (bits >> 16 & 1) + 0x7fff;
    const Bits kept = x == x ? up : bits | 0x00400000;  // keep NaN when its payload is cut off
    return reinterpret_cast<Type>(kept & 0xffff0000);
  }
};

}  // namespace

const BlockKernel kAvx512F32 = fma_kernel<Avx512, false>();
const BlockKernel kAvx512Bf16 = fma_kernel<Avx512, true>();

}  // namespace switchyard::kernels::gemm
