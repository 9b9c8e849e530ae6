// The middle of some measurements.
#pragma once

#include <algorithm>
#include <vector>

namespace switchyard::bench {

// 0 without any.
inline double median(std::vector<double> x) {
  if (x.empty()) return 0;
  std::nth_element(x.begin(), x.begin() + static_cast<std::ptrdiff_t>(x.size() / 2), x.end());
  return x[x.size() / 2];
}

}  // namespace switchyard::bench
