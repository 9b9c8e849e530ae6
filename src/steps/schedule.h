// Learning rate as a pure function of the step, so that a resumed run sees the same rates.
//
// With s = step (0, 1, ...), W = warmup_steps, N = steps, m = min_lr_ratio, the factor of the peak rate is
//
//   s < W      (s + 1) / W                                       (all kinds)
//   constant   1
//   linear     1 - (1 - m) p             p = (s - W) / (N - W)
//   cosine     m + (1 - m) (1 + cos(pi p)) / 2                    (arXiv:1608.03983, one period)
//   wsd        1 for s < N - D, then 1 - (1 - m) q  (linear)  or  1 - (1 - m) sqrt(q)  (sqrt),
//              D = decay_fraction * N steps, q = (s - (N - D)) / D   (arXiv:2404.06395, shapes: arXiv:2405.18392)
#pragma once

#include "steps/train_options.h"

namespace switchyard {

// 0 <= step; from `steps` on the factor stays at its end value.
[[nodiscard]] double schedule_factor(const ScheduleOptions& options, int64_t step, int64_t steps);

}  // namespace switchyard
