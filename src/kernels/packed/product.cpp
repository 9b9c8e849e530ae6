#include "kernels/packed/product.h"

#include <omp.h>

#include <algorithm>
#include <cstring>

#include "kernels/packed/stage.h"
#include "kernels/scratch.h"

namespace switchyard::kernels::packed {
namespace {

constexpr int64_t kLeastParallelWork = 1 << 16;  // multiply-adds; below, one thread is as fast as waking the others

}  // namespace

void packed_product(const PackedProduct& p) {
  struct Plan {
    std::vector<Unit> units;
    std::vector<Piece> pieces;
  };
  thread_local Plan plan_of_thread;
  Plan& plan = plan_of_thread;
  const PackedWeights& w = *p.w;
  const TileKernel kernel = tile_kernel(selected_isa(), w.format());
  const RowKernels& rows = row_kernels();
  const int64_t first = p.offsets[0], end = p.offsets[w.experts()];
  int threads = omp_in_parallel() ? 1 : omp_get_max_threads();
  if ((end - first) * w.k() * w.n() < kLeastParallelWork) threads = 1;

  plan.units.clear();
  for (int64_t e = 0; e < w.experts(); ++e)
    if (p.offsets[e + 1] > p.offsets[e]) plan.units.push_back({e, p.offsets[e], p.offsets[e + 1]});
  cut_units(plan.units, w, threads, plan.pieces);

  RowStore a(kernel, w);
  const int64_t rows_bytes = round_up(a.bytes(end - first), 4096);
  char* const memory = reinterpret_cast<char*>(thread_scratch(ScratchUse::shared, (rows_bytes + 4 * threads * kPieceFloats) / 4));
  a.place(memory, end - first);
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    float* const c = reinterpret_cast<float*>(memory + rows_bytes) + omp_get_thread_num() * kPieceFloats;
#pragma omp for schedule(dynamic, 16)
    for (int64_t r = first; r < end; ++r) a.write(rows, r - first, p.a + r * w.k());
#pragma omp for schedule(dynamic, 1)
    for (size_t i = 0; i < plan.pieces.size(); ++i) {
      const Piece& piece = plan.pieces[i];
      multiply_piece(kernel, w, a, first, plan.units[static_cast<size_t>(piece.unit)], piece.strip0, piece.strip1, c,
                     [&](int64_t row, int64_t n, int64_t strip, int64_t strips, const float* z, int64_t ldz) {
                       const int64_t column = strip * kStrip, columns = std::min(strips * kStrip, w.n() - column);
                       for (int64_t i_row = 0; i_row < n; ++i_row)
                         std::memcpy(p.c + (row + i_row) * w.n() + column, z + i_row * ldz, sizeof(float) * static_cast<size_t>(columns));
                     });
    }
  }
}

}  // namespace switchyard::kernels::packed
