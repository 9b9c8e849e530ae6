#include "kernels/sinkhorn.h"

#include <algorithm>

#include "kernels/per_isa.h"
#include "kernels/scratch.h"

namespace switchyard::kernels {

SW_PER_ISA(double, sinkhorn_rows, (int64_t, int64_t, const double*, const double*, const double*, double*, double*))

int64_t sinkhorn_scales(int64_t rows, int64_t columns, const double* m, double column, int64_t rounds, double tolerance, double* row_scale,
                        double* column_scale) {
  constexpr int64_t kBlock = 512;  // rows whose contributions are summed before those of other blocks: the same for any number of threads
  const auto rows_of = SW_BEST_VARIANT(sinkhorn_rows);
  const int64_t blocks = (rows + kBlock - 1) / kBlock;
  double* next = reinterpret_cast<double*>(thread_scratch(ScratchUse::shared, 2 * (rows + blocks * columns + blocks)));
  double *sums = next + rows, *miss = sums + blocks * columns;
  std::fill(row_scale, row_scale + rows, 0.0);
  std::fill(column_scale, column_scale + columns, 1.0);
  for (int64_t round = 0;; ++round) {
#pragma omp parallel for schedule(static) if (rows * columns > 16384)
    for (int64_t b = 0; b < blocks; ++b) {
      const int64_t first = b * kBlock, count = std::min(kBlock, rows - first);
      miss[b] = rows_of(count, columns, m + first * columns, column_scale, row_scale + first, next + first, sums + b * columns);
    }
    if (round > 0 && *std::max_element(miss, miss + blocks) < tolerance) return round;
    if (round == rounds) return round;
    std::copy(next, next + rows, row_scale);
    for (int64_t c = 0; c < columns; ++c) {
      double sum = 0;
      for (int64_t b = 0; b < blocks; ++b) sum += sums[b * columns + c];
      column_scale[c] = column / sum;
    }
  }
}

}  // namespace switchyard::kernels
