// Activations of feed-forward experts, plain h = phi(g) and gated h = phi(g) * u (Shazeer, arXiv:2002.05202):
//
//   relu(x) = max(x, 0)      gelu(x) = x Phi(x), Phi(x) = (1 + erf(x / sqrt 2)) / 2      silu(x) = x sigmoid(x)
//   gelu_tanh(x) = x sigmoid(2 y), y = sqrt(2 / pi) (x + 0.044715 x^3)
//   sigmoid(x) = 1 / (1 + exp(-x))      identity(x) = x      relu2(x) = max(x, 0)^2 (Primer, arXiv:2109.08668)
//
// Accuracy: values within 1e-6 * max(1, |x|, |phi(x)|) and derivatives within 2e-6 of the exact ones. Infinities give the limits
// of value and derivative; NaN stays NaN.
#pragma once

#include <cstdint>

#include "kernels/strided.h"

namespace switchyard::kernels {

enum class Activation { relu, gelu, gelu_tanh, silu, sigmoid, identity, relu2 };

// h = phi(g) * u, all [rows, width]; u.data == nullptr means plain. h may be g or u.
void activation_forward(Activation kind, int64_t rows, int64_t width, MatrixRows<const float> g, MatrixRows<const float> u,
                        MatrixRows<float> h);

// dg = dh * phi'(g) * u and, if gated, du = dh * phi(g). If h.data is given, h is recomputed on the way, for the gradient
// of the projection after it. Each output may be one of the inputs.
void activation_backward(Activation kind, int64_t rows, int64_t width, MatrixRows<const float> g,
                         MatrixRows<const float> u, MatrixRows<const float> dh, MatrixRows<float> dg, MatrixRows<float> du,
                         MatrixRows<float> h);

}  // namespace switchyard::kernels
