#include "kernels/sinkhorn.h"

#include <utility>

#include "kernels/per_isa_test.h"

namespace switchyard::kernels {
namespace {

class Sinkhorn : public PerIsa {};
INSTANTIATE_TEST_SUITE_P(Isa, Sinkhorn, vector_isas(), isa_name);

struct Scales {
  std::vector<double> row, column;
  int64_t rounds;
};

std::vector<double> positive(int64_t n, double spread) {
  std::vector<double> m;
  for (const float x : normal_values(n, 8)) m.push_back(std::exp(spread * x));
  return m;
}

Scales scales(int64_t rows, int64_t columns, const std::vector<double>& m, int64_t rounds, double tolerance) {
  Scales s{std::vector<double>(static_cast<size_t>(rows)), std::vector<double>(static_cast<size_t>(columns)), 0};
  s.rounds = sinkhorn_scales(rows, columns, m.data(), static_cast<double>(rows) / static_cast<double>(columns), rounds, tolerance, s.row.data(), s.column.data());
  return s;
}

// Oracle: the matrix itself is scaled, round by round.
std::pair<std::vector<double>, int64_t> by_loops(int64_t rows, int64_t columns, std::vector<double> m, int64_t rounds, double tolerance) {
  const auto at = [&](int64_t r, int64_t c) -> double& { return m[static_cast<size_t>(r * columns + c)]; };
  for (int64_t round = 1; round <= rounds; ++round) {
    for (int64_t r = 0; r < rows; ++r) {
      double sum = 0;
      for (int64_t c = 0; c < columns; ++c) sum += at(r, c);
      for (int64_t c = 0; c < columns; ++c) at(r, c) /= sum;
    }
    for (int64_t c = 0; c < columns; ++c) {
      double sum = 0;
      for (int64_t r = 0; r < rows; ++r) sum += at(r, c);
      for (int64_t r = 0; r < rows; ++r) at(r, c) *= static_cast<double>(rows) / static_cast<double>(columns) / sum;
    }
    double miss = 0;
    for (int64_t r = 0; r < rows; ++r) {
      double sum = 0;
      for (int64_t c = 0; c < columns; ++c) sum += at(r, c);
      miss = std::max(miss, std::abs(sum - 1));
    }
    if (miss < tolerance) return {m, round};
  }
  return {m, rounds};
}

TEST_P(Sinkhorn, EqualsScalingTheMatrixItself) {
  for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{1, 1}, {9, 5}, {600, 64}, {1300, 19}})
    for (const int64_t rounds : {1, 3, 200}) {
      SCOPED_TRACE(testing::Message() << "rows=" << rows << " columns=" << columns << " rounds=" << rounds);
      const auto m = positive(rows * columns, 2);
      const auto s = scales(rows, columns, m, rounds, 1e-6);
      const auto [want, want_rounds] = by_loops(rows, columns, m, rounds, 1e-6);
      EXPECT_EQ(s.rounds, want_rounds);
      double worst = 0;
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < columns; ++c) {
          const auto i = static_cast<size_t>(r * columns + c);
          worst = std::max(worst, std::abs(s.row[static_cast<size_t>(r)] * m[i] * s.column[static_cast<size_t>(c)] / want[i] - 1));
        }
      EXPECT_LE(worst, 1e-11);
    }
}

TEST_P(Sinkhorn, WideRangesStayFinite) {
  const auto s = scales(512, 8, positive(512 * 8, 15), 1000, 1e-9);
  for (const auto& scale : {s.row, s.column})
    for (const double x : scale) EXPECT_TRUE(std::isfinite(x) && x > 0);
}

}  // namespace
}  // namespace switchyard::kernels
