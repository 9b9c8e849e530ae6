// Shares of experts over time: bands that fill a frame from 0 to 100 per cent, with the borders of uniform load marked.
#pragma once

#include <string>
#include <vector>

namespace switchyard::report {

struct ShareChart {
  double width = 312, height = 190;
  std::string description, x_label = "step";
  std::vector<double> x;                   // [N]
  std::vector<std::vector<double>> share;  // [N][E]; a row sums to about 1
};

// Neighbouring rows are averaged so that at most about 100 remain. Without rows: a frame that says "no values".
[[nodiscard]] std::string draw(const ShareChart& chart);

// Means of neighbouring rows: at most `limit` of them.
void average_rows(std::vector<double>& x, std::vector<std::vector<double>>& rows, size_t limit);

}  // namespace switchyard::report
