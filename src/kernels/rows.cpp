#include "kernels/rows.h"

#include <cstring>

#include "kernels/per_isa.h"

namespace switchyard::kernels {

SW_PER_ISA(void, scatter_add_rows,
           (int64_t, int64_t, MatrixRows<const float>, const int64_t*, MatrixRows<float>))
SW_PER_ISA(void, scatter_add_scaled_rows,
           (int64_t, int64_t, int64_t, MatrixRows<const float>, const float*, const int64_t*, MatrixRows<float>))
SW_PER_ISA(void, combine_rows,
           (int64_t, int64_t, int64_t, MatrixRows<const float>, const int64_t*, const float*, bool, MatrixRows<float>))
SW_PER_ISA(void, combine_rows_backward,
           (int64_t, int64_t, int64_t, MatrixRows<const float>, MatrixRows<const float>, const int64_t*, const float*,
            MatrixRows<float>, float*))

void gather_rows(int64_t rows, int64_t width, MatrixRows<const float> x, const int64_t* row_token, MatrixRows<float> out) {
#pragma omp parallel for schedule(static) if (rows * width > 16384)
  for (int64_t r = 0; r < rows; ++r)
    std::memcpy(out.row(r), x.row(row_token[r]), static_cast<size_t>(width) * sizeof(float));
}

void gather_rows_backward(int64_t tokens, int64_t k, int64_t width, MatrixRows<const float> drows,
                          const int64_t* row_of_choice, MatrixRows<float> dx) {
  SW_BEST_VARIANT(combine_rows)(tokens, k, width, drows, row_of_choice, nullptr, false, dx);
}

void scatter_add_rows(int64_t rows, int64_t width, MatrixRows<const float> from, const int64_t* index, MatrixRows<float> to) {
  SW_BEST_VARIANT(scatter_add_rows)(rows, width, from, index, to);
}

void scatter_add_scaled_rows(int64_t tokens, int64_t k, int64_t width, MatrixRows<const float> x, const float* weights, const int64_t* index,
                             MatrixRows<float> to) {
  SW_BEST_VARIANT(scatter_add_scaled_rows)(tokens, k, width, x, weights, index, to);
}

void combine_rows(int64_t tokens, int64_t k, int64_t width, MatrixRows<const float> rows, const int64_t* row_of_choice,
                  const float* weights, bool add, MatrixRows<float> y) {
  SW_BEST_VARIANT(combine_rows)(tokens, k, width, rows, row_of_choice, weights, add, y);
}

void combine_rows_backward(int64_t tokens, int64_t k, int64_t width, MatrixRows<const float> dy,
                           MatrixRows<const float> rows, const int64_t* row_of_choice, const float* weights,
                           MatrixRows<float> drows, float* dweights) {
  SW_BEST_VARIANT(combine_rows_backward)(tokens, k, width, dy, rows, row_of_choice, weights, drows, dweights);
}

}  // namespace switchyard::kernels
