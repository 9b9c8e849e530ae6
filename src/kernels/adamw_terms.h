// What an AdamW step needs per element, with the scalars already combined (in double).
#pragma once

namespace switchyard::kernels {

struct AdamWTerms {
  float beta1, beta2, one_minus_beta1, one_minus_beta2;
  float keep;                      // 1 - learning_rate * weight_decay
  float rate;                      // learning_rate / (1 - beta1^step)
  float inverse_root_correction2;  // 1 / sqrt(1 - beta2^step)
  float eps, grad_scale;
};

}  // namespace switchyard::kernels
