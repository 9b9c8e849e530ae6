#include "kernels/rms_norm.h"

#include "kernels/per_isa.h"

namespace switchyard::kernels {

SW_PER_ISA(void, add_rms_norm_forward,
           (int64_t, int64_t, const float*, const float*, const float*, float, float*, float*, float*))
SW_PER_ISA(void, rms_norm_backward,
           (int64_t, int64_t, const float*, const float*, const float*, const float*, const float*, float*, float*))

void rms_norm_forward(int64_t tokens, int64_t width, const float* x, const float* weight, float eps, float* y,
                      float* inverse_rms) {
  SW_BEST_VARIANT(add_rms_norm_forward)(tokens, width, x, nullptr, weight, eps, nullptr, y, inverse_rms);
}

void add_rms_norm_forward(int64_t tokens, int64_t width, const float* x, const float* residual, const float* weight,
                          float eps, float* sum, float* y, float* inverse_rms) {
  SW_BEST_VARIANT(add_rms_norm_forward)(tokens, width, x, residual, weight, eps, sum, y, inverse_rms);
}

void rms_norm_backward(int64_t tokens, int64_t width, const float* x, const float* weight, const float* inverse_rms,
                       const float* dy, const float* dsum, float* dx, float* dweight) {
  SW_BEST_VARIANT(rms_norm_backward)(tokens, width, x, weight, inverse_rms, dy, dsum, dx, dweight);
}

}  // namespace switchyard::kernels
