#include "kernels/limits.h"

#include <omp.h>

#include <algorithm>

#include "base/clock.h"
#include "base/mapped_memory.h"
#include "kernels/amx_tiles.h"

namespace switchyard::kernels {
namespace {

#if defined(__x86_64__)

// Loops of twelve independent chains. Assembly, so that this file needs no flags; callers have asked cpu_has first.
#define SW_TWELVE(OP) OP(0) OP(1) OP(2) OP(3) OP(4) OP(5) OP(6) OP(7) OP(8) OP(9) OP(10) OP(11)
#define SW_CLEAR(n) "vpxor %%xmm" #n ", %%xmm" #n ", %%xmm" #n "\n"
#define SW_LOOP(name, OP)                                                                                       \
  void name(int64_t turns) {                                                                                    \
    __asm__ volatile(SW_TWELVE(SW_CLEAR) SW_CLEAR(14) SW_CLEAR(15) ".p2align 5\n1:\n" SW_TWELVE(OP) "dec %0\njnz 1b\nvzeroupper\n" \
                     : "+r"(turns)::"cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",        \
                       "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");                            \
  }
#define SW_FMA256(n) "vfmadd231ps %%ymm14, %%ymm15, %%ymm" #n "\n"
#define SW_FMA512(n) "vfmadd231ps %%zmm14, %%zmm15, %%zmm" #n "\n"
#define SW_VNNI512(n) "vpdpbusd %%zmm14, %%zmm15, %%zmm" #n "\n"
// Four products of bytes per lane without VNNI: pairs in 16 bits, pairs of those in 32, and the sum.
#define SW_BYTES256(n) "vpmaddubsw %%ymm14, %%ymm15, %%ymm12\nvpmaddwd %%ymm14, %%ymm12, %%ymm13\nvpaddd %%ymm13, %%ymm" #n ", %%ymm" #n "\n"
#define SW_BYTES512(n) "vpmaddubsw %%zmm14, %%zmm15, %%zmm12\nvpmaddwd %%zmm14, %%zmm12, %%zmm13\nvpaddd %%zmm13, %%zmm" #n ", %%zmm" #n "\n"
SW_LOOP(fma256, SW_FMA256)
SW_LOOP(fma512, SW_FMA512)
SW_LOOP(vnni512, SW_VNNI512)
SW_LOOP(bytes256, SW_BYTES256)
SW_LOOP(bytes512, SW_BYTES512)

// 32 x 32 outputs in four tiles over 8 tiles of each operand, again and again: as a kernel reads them, without memory.
#define SW_TILE_TURN(PRODUCT)                                                                                  \
  "tileloadd (%1,%2,1), %%tmm4\ntileloadd 16384(%1,%2,1), %%tmm6\n" PRODUCT " %%tmm6, %%tmm4, %%tmm0\n"          \
  "tileloadd 17408(%1,%2,1), %%tmm7\n" PRODUCT " %%tmm7, %%tmm4, %%tmm1\ntilezero %%tmm4\n"                      \
  "tileloadd 1024(%1,%2,1), %%tmm5\n" PRODUCT " %%tmm6, %%tmm5, %%tmm2\ntilezero %%tmm6\n"                       \
  PRODUCT " %%tmm7, %%tmm5, %%tmm3\ntilezero %%tmm5\ntilezero %%tmm7\n"
#define SW_TILE_LOOP(name, PRODUCT)                                                                             \
  void name(int64_t turns) {                                                                                    \
    alignas(64) static const char operands[32 << 10] = {};                                                      \
    static constexpr amx::TileConfig config;                                                                    \
    amx::configure(config);                                                                                     \
    for (int64_t turn = 0; turn < turns; ++turn)                                                                 \
      __asm__ volatile(SW_TILE_TURN(PRODUCT)::"r"(turn), "r"(operands + turn % 7 * 2048), "r"(int64_t{64}) : "memory"); \
    amx::release();                                                                                             \
  }
SW_TILE_LOOP(tiles_bf16, "tdpbf16ps")
SW_TILE_LOOP(tiles_int8, "tdpbsud")

struct Loop {
  void (*run)(int64_t turns);
  double operations;  // of a turn
};

Loop loop_for(Isa isa, MultiplyUnit unit) {
  const bool bytes = unit == MultiplyUnit::int8;
  switch (isa) {
    case Isa::amx:
      if (unit == MultiplyUnit::bfloat16) return {tiles_bf16, 4 * 2.0 * 16 * 16 * 32};
      if (bytes) return {tiles_int8, 4 * 2.0 * 16 * 16 * 64};
      return {fma512, 12 * 32};
    case Isa::vnni: return bytes ? Loop{vnni512, 12 * 128} : Loop{fma512, 12 * 32};
    case Isa::avx512: return bytes ? Loop{bytes512, 12 * 128} : Loop{fma512, 12 * 32};
    case Isa::avx2: return bytes ? Loop{bytes256, 12 * 64} : Loop{fma256, 12 * 16};
    case Isa::scalar: break;
  }
  return {};
}

#else

struct Loop {
  void (*run)(int64_t turns) = nullptr;
  double operations = 0;
};
Loop loop_for(Isa, MultiplyUnit) { return {}; }

#endif

}  // namespace

double multiply_peak(Isa isa, MultiplyUnit unit) {
  const Loop loop = cpu_has(isa) ? loop_for(isa, unit) : Loop{};
  if (!loop.run) return 0;
  constexpr int64_t kTurns = 200000;
  constexpr double kLeastSeconds = 0.01;  // attempts of half a millisecond; others may have the cores for some of them
  double best = 0;
  const auto first = Clock::now();
  for (int attempt = 0; attempt < 5 || seconds_since(first) < kLeastSeconds; ++attempt) {
    const auto start = Clock::now();
    int threads = 1;
#pragma omp parallel
    {
#pragma omp single
      threads = omp_get_num_threads();
      loop.run(kTurns);
    }
    best = std::max(best, threads * static_cast<double>(kTurns) * loop.operations / seconds_since(start) * 1e-9);
  }
  return best;
}

BandwidthProbe::BandwidthProbe(int64_t bytes) : bytes_(bytes), data_(mapped_memory(bytes, /*huge_pages=*/true)) {
  auto* words = reinterpret_cast<uint64_t*>(data_.get());
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < bytes / 8; ++i) words[i] = static_cast<uint64_t>(i) * 0x9e3779b97f4a7c15u;  // no two pages alike
}

double BandwidthProbe::read_gbps() const {
  constexpr int64_t kStreams = 8, kWordsOfLine = 8;
  const auto* words = reinterpret_cast<const uint64_t*>(data_.get());
  const auto start = Clock::now();
  uint64_t all = 0;
  int64_t read = 0;
#pragma omp parallel reduction(^ : all) reduction(+ : read)
  {
    const int64_t share = bytes_ / 8 / omp_get_num_threads(), stream = share / kStreams / kWordsOfLine * kWordsOfLine;
    const uint64_t* mine = words + omp_get_thread_num() * share;
    for (int64_t i = 0; i < stream; i += kWordsOfLine)
      for (int64_t s = 0; s < kStreams; ++s) all ^= mine[s * stream + i] ^ mine[s * stream + i + 4];
    read += kStreams * stream * 8;
  }
  const double seconds = seconds_since(start);
  [[maybe_unused]] static volatile uint64_t keep;
  keep = all;
  return static_cast<double>(read) / seconds * 1e-9;
}

}  // namespace switchyard::kernels
