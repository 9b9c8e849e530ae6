#include "report/routing_figures.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace switchyard::report {

double category_bits(const std::vector<std::vector<double>>& share) {
  std::vector<std::vector<double>> rows;
  for (const auto& row : share) {
    const double sum = std::accumulate(row.begin(), row.end(), 0.0);
    if (!std::isfinite(sum) || sum <= 0) continue;
    rows.push_back(row);
    for (double& v : rows.back()) v /= sum;
  }
  if (rows.empty()) return NAN;
  std::vector<double> mean(rows[0].size(), 0.0);
  for (const auto& row : rows)
    for (size_t e = 0; e < mean.size(); ++e) mean[e] += row[e] / static_cast<double>(rows.size());
  double bits = 0;
  for (const auto& row : rows)
    for (size_t e = 0; e < mean.size(); ++e)
      if (row[e] > 0) bits += row[e] * std::log2(row[e] / mean[e]) / static_cast<double>(rows.size());
  return std::max(bits, 0.0);
}

double largest_off_diagonal(const std::vector<std::vector<double>>& similarity) {
  double largest = NAN;
  for (size_t r = 0; r < similarity.size(); ++r)
    for (size_t c = 0; c < similarity[r].size(); ++c)
      if (r != c && std::isfinite(similarity[r][c])) largest = std::fmax(largest, std::fabs(similarity[r][c]));
  return largest;
}

}  // namespace switchyard::report
