// Bars side by side with the range of their seeds, as static SVG in the colours of the page.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "report/axis.h"

namespace switchyard::report {

struct Bar {
  std::string label, value;  // plain text above the bar, left and right
  size_t colour = 0;         // 0 .. kNumSeriesColours - 1
  double mean = 0, low = 0, high = 0;  // the bar ends at the mean, a whisker goes from least to greatest
};

struct BarChart {
  double width = 312;
  std::string description;  // for screen readers
  Unit unit = Unit::plain;
  std::vector<Bar> bars;    // from zero; negative values are drawn as nothing
};

// The <svg> element. Without bars: an empty frame that says "no values".
[[nodiscard]] std::string draw(const BarChart& chart);

}  // namespace switchyard::report
