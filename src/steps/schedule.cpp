#include "steps/schedule.h"

#include "switchyard/error.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace switchyard {
namespace {

// Where `step` stands between `from` and `to`, in [0, 1]; 1 when the span is empty.
double progress(int64_t step, double from, double to) {
  return to <= from ? 1.0 : std::clamp((static_cast<double>(step) - from) / (to - from), 0.0, 1.0);
}

double wsd_factor(const ScheduleOptions& options, int64_t step, int64_t steps) {
  const double total = static_cast<double>(steps);
  const double decay_from = total - std::round(options.decay_fraction * total);
  if (static_cast<double>(step) < decay_from) return 1;
  const double q = progress(step, decay_from, total);
  return 1 - (1 - options.min_lr_ratio) * (options.decay_shape == "sqrt" ? std::sqrt(q) : q);
}

}  // namespace

double schedule_factor(const ScheduleOptions& options, int64_t step, int64_t steps) {
  const double warmup = static_cast<double>(options.warmup_steps);
  if (step < options.warmup_steps) return static_cast<double>(step + 1) / warmup;
  const double m = options.min_lr_ratio, p = progress(step, warmup, static_cast<double>(steps));
  if (options.kind == "constant") return 1;
  if (options.kind == "linear") return 1 - (1 - m) * p;
  if (options.kind == "cosine") return m + (1 - m) * (1 + std::cos(std::numbers::pi * p)) / 2;
  if (options.kind == "wsd") return wsd_factor(options, step, steps);
  fail(ErrorKind::config, "train.schedule.kind = \"{}\"; expected cosine, linear, wsd or constant", options.kind);
}

}  // namespace switchyard
