// Softmax and log-sum-exp of rows, as gates need them: few columns, many rows.
#pragma once

#include <cstdint>

#include "kernels/strided.h"

namespace switchyard::kernels {

// p[r,:] = softmax(x[r,:]), lse[r] = log sum exp(x[r,:]); either output may be null. Entries of -infinity get 0; a row of
// nothing else gets zeros and lse = -infinity. p may be x.
void softmax_rows(int64_t rows, int64_t width, MatrixRows<const float> x, MatrixRows<float> p, float* lse);

// dx[r,:] = p * (dp - <p, dp>) + p * dlse[r]; dp.data or dlse may be null. dx may be dp.
void softmax_rows_backward(int64_t rows, int64_t width, MatrixRows<const float> p, MatrixRows<const float> dp,
                           const float* dlse, MatrixRows<float> dx);

}  // namespace switchyard::kernels
