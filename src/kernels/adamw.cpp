#include "kernels/adamw.h"

#include <cmath>

#include "kernels/adamw_terms.h"
#include "kernels/per_isa.h"

namespace switchyard::kernels {

SW_PER_ISA(void, adamw_step, (const AdamWTerms&, int64_t, const float*, float*, float*, float*))
SW_PER_ISA(double, sum_of_squares, (int64_t, const float*))
SW_PER_ISA(int64_t, first_non_finite, (int64_t, const float*))

void adamw_step(const AdamW& options, int64_t n, const float* grad, float* param, float* m, float* v) {
  const double step = static_cast<double>(options.step), rate = options.learning_rate;
  const double correction1 = 1.0 - std::pow(static_cast<double>(options.beta1), step);
  const double correction2 = 1.0 - std::pow(static_cast<double>(options.beta2), step);
  const AdamWTerms terms = {
      .beta1 = options.beta1,
      .beta2 = options.beta2,
      .one_minus_beta1 = static_cast<float>(1.0 - options.beta1),
      .one_minus_beta2 = static_cast<float>(1.0 - options.beta2),
      .keep = static_cast<float>(1.0 - rate * options.weight_decay),
      .rate = static_cast<float>(rate / correction1),
      .inverse_root_correction2 = static_cast<float>(1.0 / std::sqrt(correction2)),
      .eps = options.eps,
      .grad_scale = options.grad_scale,
  };
  SW_BEST_VARIANT(adamw_step)(terms, n, grad, param, m, v);
}

double sum_of_squares(int64_t n, const float* x) { return SW_BEST_VARIANT(sum_of_squares)(n, x); }

int64_t first_non_finite(int64_t n, const float* x) { return SW_BEST_VARIANT(first_non_finite)(n, x); }

}  // namespace switchyard::kernels
