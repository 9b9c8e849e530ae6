// The roof of float32 kernels: multiply-adds per second of one thread with all operands in registers.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "kernels/isa.h"

namespace switchyard::bench {

// In Gflop/s; 0 where the CPU has no AVX-512.
inline double fma_peak_gflops() {
  double best = 0;
#if defined(__x86_64__)
  if (!kernels::cpu_has(kernels::Isa::avx512)) return 0;
  for (int attempt = 0; attempt < 5; ++attempt) {
    const auto start = std::chrono::steady_clock::now();
    constexpr int64_t kTurns = 400000;
    int64_t turns = kTurns;
#define SW_FMA(n) "vfmadd231ps %%zmm30, %%zmm31, %%zmm" #n "\n"
    __asm__ volatile("vpxord %%zmm30, %%zmm30, %%zmm30\nvpxord %%zmm31, %%zmm31, %%zmm31\n1:\n"  //
                     SW_FMA(16) SW_FMA(17) SW_FMA(18) SW_FMA(19) SW_FMA(20) SW_FMA(21)           //
                     SW_FMA(22) SW_FMA(23) SW_FMA(24) SW_FMA(25) SW_FMA(26) SW_FMA(27)           //
                     "dec %0\njnz 1b\nvzeroupper\n"
                     : "+r"(turns)::"cc", "memory");
#undef SW_FMA
    const double ns = std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count();
    best = std::max(best, kTurns * 12 * 32 / ns);
  }
#endif
  return best;
}

}  // namespace switchyard::bench
