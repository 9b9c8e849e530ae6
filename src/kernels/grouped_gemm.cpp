#include "kernels/grouped_gemm.h"

#include <omp.h>

#include <algorithm>
#include <cstring>

#include "kernels/grouped_gemm_block.h"
#include "kernels/grouped_gemm_plan.h"
#include "kernels/isa.h"
#include "kernels/scratch.h"

namespace switchyard::kernels {
namespace gemm {
namespace {

constexpr int64_t kPage = 4096;
constexpr int64_t kCacheWays = 8;  // of an L1 cache, at least
constexpr int64_t kLeastParallelWork = 1 << 16;  // multiply-adds; below, one thread is as fast as waking the others

const BlockKernel& kernel_for(Isa isa, GemmCompute compute) {
  const bool bf16 = compute == GemmCompute::bfloat16;
  switch (isa) {
    case Isa::amx: return bf16 ? kAmxBf16 : kAvx512F32;
    case Isa::vnni:
    case Isa::avx512: return bf16 ? kAvx512Bf16 : kAvx512F32;
    case Isa::avx2: return bf16 ? kAvx2Bf16 : kAvx2F32;
    case Isa::scalar: break;
  }
  return bf16 ? kScalarBf16 : kScalarF32;
}

int64_t round_up(int64_t x, int64_t unit) { return (x + unit - 1) / unit * unit; }

// Columns of B that are packed at a time on the way, if there are more than a few rows: as many as C should be written in
// one run.
constexpr int64_t kColumnsAtATime = 256;

// Private memory of a thread: a packed piece of A, then packed columns of B.
int64_t piece_a_bytes(const BlockKernel& kernel) {
  return round_up(packed_bytes(kernel, kernel.block_rows, kernel.k_chunk), kPage);
}
int64_t thread_bytes(const BlockKernel& kernel) {
  return piece_a_bytes(kernel) + round_up(packed_bytes(kernel, round_up(kColumnsAtATime, kernel.nr), kernel.k_chunk), kPage);
}

void zero_block(const Problem& p, const BlockItem& item) {
  for (int64_t row = item.m0; row < item.m1; ++row)
    std::memset(p.c + row * p.cols + item.n0, 0, sizeof(float) * static_cast<size_t>(item.n1 - item.n0));
}

void pack_item(const BlockKernel& kernel, const GroupedGemm& g, const Plan& plan, const PackItem& item, char* area) {
  const Slab& slab = plan.slabs[item.slab];
  kernel.pack_b(problem_of(g, slab.expert).b, {item.n0, item.n1, item.k0, item.k1},
                area + place_in(slab, kernel, item.n0, item.k0, item.k1));
}

// Whether rows of A are multiplied where they lie. Rows that are whole pages apart share a set of the L1 cache: more of them than
// the set has ways would push each other out.
bool multiplied_in_place(const BlockKernel& kernel, const Operand& a) {
  return kernel.rows_in_place && a.along_k && (kernel.mr <= kCacheWays || a.ld % (kPage / static_cast<int64_t>(sizeof(float))) != 0);
}

// One block of C: k_chunk steps of the contraction at a time, in ascending order. Without a slab, B is packed
// on the way.
void compute_block(const BlockKernel& kernel, const GroupedGemm& g, const Plan& plan, const BlockItem& item, const char* area,
                   char* own) {
  const Problem p = problem_of(g, item.expert);
  if (p.depth == 0) return zero_block(p, item);
  char* const own_b = own + piece_a_bytes(kernel);
  const bool unpacked = item.slab == kUnpacked;
  const bool in_place = multiplied_in_place(kernel, p.a);
  const bool few_rows = item.m1 - item.m0 <= kFewRows;
  const int64_t width = !unpacked ? item.n1 - item.n0 : few_rows ? kernel.nr : round_up(kColumnsAtATime, kernel.nr);
  for (int64_t k0 = 0; k0 < p.depth; k0 += kernel.k_chunk) {
    const int64_t k1 = std::min(k0 + kernel.k_chunk, p.depth);
    if (!in_place) kernel.pack_a(p.a, {item.m0, item.m1, k0, k1}, own);
    for (int64_t n0 = item.n0; n0 < item.n1; n0 += width) {
      const int64_t n1 = std::min(n0 + width, item.n1);
      if (unpacked) kernel.pack_b(p.b, {n0, n1, k0, k1}, own_b);
      kernel.multiply({.a = in_place ? reinterpret_cast<const char*>(p.a.data + item.m0 * p.a.ld + k0) : own,
                       .lda = in_place ? p.a.ld : 0,
                       .b = unpacked ? own_b : area + place_in(plan.slabs[item.slab], kernel, n0, k0, k1),
                       .b_panel_bytes = packed_bytes(kernel, kernel.nr, k1 - k0),
                       .rows = item.m1 - item.m0, .cols = n1 - n0, .k = k1 - k0,
                       .c = p.c + item.m0 * p.cols + n0, .ldc = p.cols, .add = g.accumulate || k0 > 0});
    }
  }
}

}  // namespace
}  // namespace gemm

void grouped_gemm(const GroupedGemm& g) {
  using namespace gemm;
  thread_local Plan plan;
  const BlockKernel& kernel = kernel_for(selected_isa(), g.compute);
  int threads = omp_in_parallel() ? 1 : omp_get_max_threads();
  plan.build(g, kernel, threads);
  if (plan.work < kLeastParallelWork) threads = 1;

  const int64_t area_bytes = round_up(plan.area_bytes, kPage);
  const int64_t bytes = area_bytes + threads * thread_bytes(kernel);
  char* const area = reinterpret_cast<char*>(thread_scratch(ScratchUse::shared, (bytes + 3) / 4));
  const Plan& p = plan;  // thread_local names would mean another object inside the region
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    char* const own = area + area_bytes + omp_get_thread_num() * thread_bytes(kernel);
    for (const Round& round : p.rounds) {
#pragma omp for schedule(dynamic, 1)
      for (size_t i = round.packs_begin; i < round.packs_end; ++i) pack_item(kernel, g, p, p.packs[i], area);
#pragma omp for schedule(dynamic, 1)
      for (size_t i = round.blocks_begin; i < round.blocks_end; ++i) compute_block(kernel, g, p, p.blocks[i], area, own);
    }
  }
}

}  // namespace switchyard::kernels
