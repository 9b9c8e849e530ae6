// Moving rows between token order and expert order, forward and backward. Sums run in a fixed order, so that results do not
// depend on the number of threads. Index arrays come from kernels/routing.h.
#pragma once

#include <cstdint>

#include "kernels/strided.h"

namespace switchyard::kernels {

// out[r,:] = x[row_token[r],:];  out [rows, width].
void gather_rows(int64_t rows, int64_t width, MatrixRows<const float> x, const int64_t* row_token, MatrixRows<float> out);

// The adjoint of gather_rows when every token has k choices:  dx[t,:] = sum_j drows[row_of_choice[t,j],:], in order of j;
// choices with -1 add nothing. dx [tokens, width] is overwritten.
void gather_rows_backward(int64_t tokens, int64_t k, int64_t width, MatrixRows<const float> drows,
                          const int64_t* row_of_choice, MatrixRows<float> dx);

// to[index[r],:] += rows[r,:] in order of r, for any index with repeats (embeddings, expert choice).
void scatter_add_rows(int64_t rows, int64_t width, MatrixRows<const float> from, const int64_t* index, MatrixRows<float> to);

// to[index[t,j],:] += weights[t,j] * x[t,:] in order of (t, j), for any index [tokens, k] with repeats.
void scatter_add_scaled_rows(int64_t tokens, int64_t k, int64_t width, MatrixRows<const float> x, const float* weights, const int64_t* index,
                             MatrixRows<float> to);

// y[t,:] = (add ? y[t,:] : 0) + sum_j weights[t,j] * rows[row_of_choice[t,j],:];  weights [tokens, k].
void combine_rows(int64_t tokens, int64_t k, int64_t width, MatrixRows<const float> rows, const int64_t* row_of_choice,
                  const float* weights, bool add, MatrixRows<float> y);

// drows[r,:] = weights[t,j] * dy[t,:] and dweights[t,j] = <dy[t,:], rows[r,:]> with r = row_of_choice[t,j]; dweights is 0
// where r is -1. drows may be rows; either output may be null.
void combine_rows_backward(int64_t tokens, int64_t k, int64_t width, MatrixRows<const float> dy,
                           MatrixRows<const float> rows, const int64_t* row_of_choice, const float* weights,
                           MatrixRows<float> drows, float* dweights);

}  // namespace switchyard::kernels
