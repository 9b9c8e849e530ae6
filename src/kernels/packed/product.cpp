#include "kernels/packed/product.h"

#include <omp.h>

#include <algorithm>
#include <cstring>

#include "kernels/packed/stage.h"
#include "kernels/scratch.h"

namespace switchyard::kernels::packed {
namespace {

constexpr int64_t kLeastParallelWork = 1 << 18;  // multiply-adds; below, one thread is as fast as waking the others

// Columns of one row of a piece, [strips][16], to their places in a row of c.
void place_columns(const PackedWeights& w, int64_t strip, int64_t strips, const float* from, float* c) {
  for (int64_t s = strip; s < strip + strips; ++s, from += kStrip) {
    if (w.order() == RowOrder::as_stored) {
      std::memcpy(c + s * kStrip, from, sizeof(float) * static_cast<size_t>(std::min(kStrip, w.n() - s * kStrip)));
      continue;
    }
    const int64_t half = s % 2, first = s / 2 * kStrip, columns = std::min(kStrip, w.n() / 2 - first);
    if (w.order() == RowOrder::gate_then_up)
      std::memcpy(c + half * (w.n() / 2) + first, from, sizeof(float) * static_cast<size_t>(columns));
    else
      for (int64_t j = 0; j < columns; ++j) c[2 * (first + j) + half] = from[j];
  }
}

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
  char* const memory = reinterpret_cast<char*>(thread_scratch(ScratchUse::shared, (rows_bytes + 4 * threads * piece_floats(kernel)) / 4));
  a.place(memory, end - first);
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    float* const c = reinterpret_cast<float*>(memory + rows_bytes) + omp_get_thread_num() * piece_floats(kernel);
#pragma omp for schedule(dynamic, 16)
    for (int64_t r = first; r < end; ++r) a.write(rows, r - first, p.a + r * w.k());
#pragma omp for schedule(dynamic, 1)
    for (size_t i = 0; i < plan.pieces.size(); ++i) {
      const Piece& piece = plan.pieces[i];
      multiply_piece(kernel, w, a, first, plan.units[static_cast<size_t>(piece.unit)], piece.strip0, piece.strip1, c,
                     [&](int64_t row, int64_t n, int64_t strip, int64_t strips, const float* z, int64_t ldz) {
                       for (int64_t r = 0; r < n; ++r) place_columns(w, strip, strips, z + r * ldz, p.c + (row + r) * w.n());
                     });
    }
  }
}

}  // namespace switchyard::kernels::packed
