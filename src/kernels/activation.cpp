#include "kernels/activation.h"

#include "kernels/per_isa.h"

namespace switchyard::kernels {

SW_PER_ISA(void, activation_forward,
           (Activation, int64_t, int64_t, MatrixRows<const float>, MatrixRows<const float>, MatrixRows<float>))
SW_PER_ISA(void, activation_backward,
           (Activation, int64_t, int64_t, MatrixRows<const float>, MatrixRows<const float>, MatrixRows<const float>,
            MatrixRows<float>, MatrixRows<float>, MatrixRows<float>))

void activation_forward(Activation kind, int64_t rows, int64_t width, MatrixRows<const float> g, MatrixRows<const float> u,
                        MatrixRows<float> h) {
  SW_BEST_VARIANT(activation_forward)(kind, rows, width, g, u, h);
}

void activation_backward(Activation kind, int64_t rows, int64_t width, MatrixRows<const float> g,
                         MatrixRows<const float> u, MatrixRows<const float> dh, MatrixRows<float> dg, MatrixRows<float> du,
                         MatrixRows<float> h) {
  SW_BEST_VARIANT(activation_backward)(kind, rows, width, g, u, dh, dg, du, h);
}

}  // namespace switchyard::kernels
