#include "kernels/softmax.h"

#include "kernels/per_isa.h"

namespace switchyard::kernels {

SW_PER_ISA(void, softmax_rows, (int64_t, int64_t, MatrixRows<const float>, MatrixRows<float>, float*))
SW_PER_ISA(void, softmax_rows_backward,
           (int64_t, int64_t, MatrixRows<const float>, MatrixRows<const float>, const float*, MatrixRows<float>))

void softmax_rows(int64_t rows, int64_t width, MatrixRows<const float> x, MatrixRows<float> p, float* lse) {
  SW_BEST_VARIANT(softmax_rows)(rows, width, x, p, lse);
}

void softmax_rows_backward(int64_t rows, int64_t width, MatrixRows<const float> p, MatrixRows<const float> dp,
                           const float* dlse, MatrixRows<float> dx) {
  SW_BEST_VARIANT(softmax_rows_backward)(rows, width, p, dp, dlse, dx);
}

}  // namespace switchyard::kernels
