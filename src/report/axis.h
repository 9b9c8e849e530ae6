// Axes of charts: round tick values, their labels, and the map from values to pixels.
#pragma once

#include <string>
#include <vector>

namespace switchyard::report {

enum class Unit {
  plain,    // 12, 0.5; thousands as 12k; values far below one are scaled and the scale is named beside the label
  percent,  // shares as per cent
  times,    // multiples, 1.5x
  seconds,  // seconds, minutes or hours, named beside the label
};

struct Axis {
  double low = 0, high = 1;  // the range shown; ticks lie inside
  std::vector<double> ticks;
  std::vector<std::string> labels;
  std::string scale;  // what the labels count, e.g. "min" or "×10⁻³"; empty when nothing needs to be said

  // `value` as a length from the low end of an axis of the given length.
  [[nodiscard]] double place(double value, double length) const { return (value - low) / (high - low) * length; }
};

// Steps and times: from zero when the first value is close to it, so that the axis shows where the run began.
[[nodiscard]] inline double from_zero_if_near(double low, double high) { return low > 0 && low < 0.1 * high ? 0 : low; }

// An axis over [low, high] with 2 to `max_ticks` ticks at 1, 2, 2.5 or 5 times a power of ten. With `round_range` the range
// grows to whole ticks (value axes); without it stays as given (step and time axes). An empty or non-finite range is
// widened to something that can be drawn. Requires max_ticks >= 3.
[[nodiscard]] Axis make_axis(double low, double high, int max_ticks, Unit unit, bool round_range);

}  // namespace switchyard::report
