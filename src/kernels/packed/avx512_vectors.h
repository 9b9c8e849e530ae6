// The vector policy of tile_vectors.h for AVX-512; those who use it add the products of bytes.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace switchyard::kernels::packed {
namespace {

struct Avx512Vectors {
  using Float = __m512;
  using Int = __m512i;
  static constexpr int kWidth = 16, kRegisters = 32, kRows = 14, kIntRows = 12, kIntBeside = 3;

  static Float zero() { return _mm512_setzero_ps(); }
  static Float load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, Float x) { _mm512_storeu_ps(p, x); }
  static Float broadcast(const float* p) { return _mm512_set1_ps(*p); }
  static Float fma(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
  static Float mul(Float a, Float b) { return _mm512_mul_ps(a, b); }
  static Int load_int(const char* p) { return _mm512_load_si512(p); }
  static Int broadcast_int(const char* p) {
    int32_t bytes;
    __builtin_memcpy(&bytes, p, 4);
    return _mm512_set1_epi32(bytes);
  }
  static Float to_float(Int x) { return _mm512_maskz_cvtepi32_ps(0xffff, x); }

  // Vector operators of the compiler: GCC 12 warns about its own unmasked shift intrinsics.
  using Words = uint32_t __attribute__((vector_size(64)));
  static Float even_bf16(Int x) { return reinterpret_cast<Float>(reinterpret_cast<Words>(x) << 16); }
  static Float odd_bf16(Int x) { return reinterpret_cast<Float>(reinterpret_cast<Words>(x) & 0xffff0000u); }
  static Int low_nibbles(Int x) { return reinterpret_cast<Int>(reinterpret_cast<Words>(x) & 0x0f0f0f0fu); }
  static Int high_nibbles(Int x) { return reinterpret_cast<Int>(reinterpret_cast<Words>(x) >> 4 & 0x0f0f0f0fu); }
  static Float scales(const uint16_t* p) {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return reinterpret_cast<Float>(reinterpret_cast<Words>(_mm512_maskz_cvtepu16_epi32(0xffff, half)) << 16);
  }
};

}  // namespace
}  // namespace switchyard::kernels::packed
