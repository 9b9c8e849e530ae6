// 16 x 16 transpose of 32-bit elements in registers; for files compiled with AVX-512 flags.
#pragma once

#include <immintrin.h>

namespace switchyard::kernels {
namespace {

// row[i][j] becomes row[j][i]
inline __attribute__((always_inline)) void transpose_16x16(__m512 (&row)[16]) {
  __m512 t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {  // pairs of rows: elements of 32 bits
    t[2 * i] = _mm512_unpacklo_ps(row[2 * i], row[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_ps(row[2 * i], row[2 * i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {  // four rows: elements of 64 bits; row[4i + j] holds columns j, j+4, j+8, j+12
    const auto pd = [](__m512 x) { return _mm512_castps_pd(x); };
    row[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(pd(t[4 * i]), pd(t[4 * i + 2])));
    row[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(pd(t[4 * i]), pd(t[4 * i + 2])));
    row[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(pd(t[4 * i + 1]), pd(t[4 * i + 3])));
    row[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(pd(t[4 * i + 1]), pd(t[4 * i + 3])));
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {  // lanes of 128 bits, two steps
    t[j] = _mm512_shuffle_f32x4(row[j], row[4 + j], 0x88);            // columns j, j+8 of rows 0-7
    t[4 + j] = _mm512_shuffle_f32x4(row[j], row[4 + j], 0xdd);        // columns j+4, j+12
    t[8 + j] = _mm512_shuffle_f32x4(row[8 + j], row[12 + j], 0x88);   // the same of rows 8-15
    t[12 + j] = _mm512_shuffle_f32x4(row[8 + j], row[12 + j], 0xdd);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    row[j] = _mm512_shuffle_f32x4(t[j], t[8 + j], 0x88);
    row[8 + j] = _mm512_shuffle_f32x4(t[j], t[8 + j], 0xdd);
    row[4 + j] = _mm512_shuffle_f32x4(t[4 + j], t[12 + j], 0x88);
    row[12 + j] = _mm512_shuffle_f32x4(t[4 + j], t[12 + j], 0xdd);
  }
}

}  // namespace
}  // namespace switchyard::kernels
