// Sinkhorn's alternating scalings: rows of a positive matrix to sum 1, columns to equal sums.
#pragma once

#include <cstdint>

namespace switchyard::kernels {

// M [rows, columns] > 0, neither of them 0, row by row. Finds scales such that row_scale[r] * M[r,c] * column_scale[c] has columns of sum `column`
// and rows that miss 1 by less than `tolerance`, or has gone through `rounds` rounds of rows, then columns. Returns the rounds
// taken. float64 throughout; the result does not depend on the number of threads.
int64_t sinkhorn_scales(int64_t rows, int64_t columns, const double* m, double column, int64_t rounds, double tolerance, double* row_scale,
                        double* column_scale);

}  // namespace switchyard::kernels
