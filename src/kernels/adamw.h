// The optimiser's passes over flat buffers: AdamW (Loshchilov and Hutter, arXiv:1711.05101, algorithm 2), the sum of squares
// for gradient clipping, and the search for values that are not finite. Results do not depend on the number of threads.
#pragma once

#include <cstdint>

namespace switchyard::kernels {

struct AdamW {
  float learning_rate;
  float beta1 = 0.9f, beta2 = 0.999f, eps = 1e-8f;
  float weight_decay = 0.0f;  // decoupled: the parameter shrinks by learning_rate * weight_decay
  int64_t step = 1;           // counts from 1; gives the bias corrections 1 - beta^step
  float grad_scale = 1.0f;    // multiplies the gradient first: clipping, accumulation
};

// With g = grad_scale * grad:  m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2,
//   param = (1 - lr weight_decay) param - lr (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + eps)
void adamw_step(const AdamW& options, int64_t n, const float* grad, float* param, float* m, float* v);

// sum x[i]^2 in double, in an order that depends on n alone (per instruction set).
[[nodiscard]] double sum_of_squares(int64_t n, const float* x);

// The least i for which x[i] is infinite or NaN; -1 if there is none.
[[nodiscard]] int64_t first_non_finite(int64_t n, const float* x);

}  // namespace switchyard::kernels
