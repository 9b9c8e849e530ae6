// Root-mean-square normalisation of rows (Zhang and Sennrich, arXiv:1910.07467, equation 4):
//
//   y[t,:] = weight * x[t,:] * r[t],   r[t] = 1 / sqrt(mean(x[t,:]^2) + eps)
//
// Results do not depend on the number of threads.
#pragma once

#include <cstdint>

namespace switchyard::kernels {

// x, y [tokens, width]; weight [width]; inverse_rms [tokens] is what the backward pass needs, or null. y may be x.
void rms_norm_forward(int64_t tokens, int64_t width, const float* x, const float* weight, float eps, float* y,
                      float* inverse_rms);

// The same of x + residual, which is written to `sum` (it may be x or residual): one pass over memory instead of two.
void add_rms_norm_forward(int64_t tokens, int64_t width, const float* x, const float* residual, const float* weight,
                          float eps, float* sum, float* y, float* inverse_rms);

// dx [tokens, width] and dweight [width], both overwritten. If `dsum` [tokens, width] is given it is added to dx: the
// gradient that reaches x (or `sum` above) by the residual path. dx may be dy or dsum.
void rms_norm_backward(int64_t tokens, int64_t width, const float* x, const float* weight, const float* inverse_rms,
                       const float* dy, const float* dsum, float* dx, float* dweight);

}  // namespace switchyard::kernels
