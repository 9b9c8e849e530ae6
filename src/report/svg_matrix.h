// Matrices of coloured cells: routing by category, similarity of experts, load of many experts over time.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace switchyard::report {

struct Matrix {
  double cell_width = 36, cell_height = 28;
  std::string description;
  std::string row_name, column_name;               // what rows and columns are
  std::vector<std::string> row_labels, column_labels;  // empty strings are left out
  // [R][C] from -1 (far below) over 0 (neutral, the colour of the page) to 1 (far above). NaN: not recorded, hatched grey.
  std::vector<std::vector<double>> level;
  std::vector<std::vector<std::string>> text;   // inside the cells; empty: none
  std::vector<std::vector<std::string>> title;  // tooltips; empty: none
};

// With titles every cell is an element of its own; without, cells of one shade share a path, which keeps large ones small.
[[nodiscard]] std::string draw(const Matrix& matrix);

// A row of swatches for levels with their labels, lowest first.
[[nodiscard]] std::string scale_legend(const std::vector<std::pair<double, std::string>>& steps);

// log2(ratio) / log2(full), within [-1, 1]; a ratio of 0 gives -1. For shares against the uniform share.
[[nodiscard]] double ratio_level(double ratio, double full);

}  // namespace switchyard::report
