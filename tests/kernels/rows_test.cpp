#include "kernels/rows.h"

#include <omp.h>

#include "kernels/per_isa_test.h"
#include "kernels/routing.h"

namespace switchyard::kernels {
namespace {

class Rows : public PerIsa {};
INSTANTIATE_TEST_SUITE_P(Isa, Rows, vector_isas(), isa_name);

// A plan of `tokens` tokens with k choices each, some of them -1.
struct Plan {
  int64_t tokens, k, rows;
  std::vector<int64_t> row_token, row_weight_index, row_of_choice;

  Plan(int64_t tokens, int64_t k, int64_t experts) : tokens(tokens), k(k) {
    std::mt19937 random(9);
    std::vector<int64_t> ids(static_cast<size_t>(tokens * k)), offsets(static_cast<size_t>(experts + 1));
    for (int64_t& e : ids) e = random() % 5 == 0 ? -1 : static_cast<int64_t>(random() % static_cast<uint64_t>(experts));
    if (tokens > 2) ids[0] = ids[static_cast<size_t>(k - 1)] = -1;
    row_token = row_weight_index = row_of_choice = std::vector<int64_t>(ids.size());
    rows = plan_counting_sort(tokens, k, experts, ids.data(), nullptr, row_token.data(), row_weight_index.data(), row_of_choice.data(),
                              offsets.data());
  }
};

TEST_P(Rows, GatherAndCombineEqualLoopsForwardAndBackward) {
  for (const int64_t width : {1, 7, 33, 128})
    for (const int64_t tokens : {0, 1, 41}) {
      const Plan p(tokens, 2, 5);
      SCOPED_TRACE(testing::Message() << "width=" << width << " tokens=" << tokens << " rows=" << p.rows);
      const auto x = normal_values(tokens * width, 1), rows = normal_values(p.rows * width, 2), weights = normal_values(tokens * p.k, 3);
      const auto dy = normal_values(tokens * width, 4);
      std::vector<double> gathered, dx(x.size()), y(x.size()), drows(rows.size()), dweights(weights.size());
      for (int64_t r = 0; r < p.rows; ++r) {
        const int64_t t = p.row_token[static_cast<size_t>(r)], c = p.row_weight_index[static_cast<size_t>(r)];
        for (int64_t d = 0; d < width; ++d) {
          const size_t at_token = static_cast<size_t>(t * width + d), at_row = static_cast<size_t>(r * width + d);
          gathered.push_back(x[at_token]);
          dx[at_token] += rows[at_row];
          y[at_token] += double{weights[static_cast<size_t>(c)]} * rows[at_row];
          drows[at_row] = double{weights[static_cast<size_t>(c)]} * dy[at_token];
          dweights[static_cast<size_t>(c)] += double{dy[at_token]} * rows[at_row];
        }
      }
      const auto view = [&](const std::vector<float>& v) { return MatrixRows<const float>{v.data(), width}; };
      std::vector<float> got_rows(rows.size(), 7.0f), got_x(x.size(), 7.0f), got_weights(weights.size(), 7.0f);
      const MatrixRows<float> to_rows{got_rows.data(), width}, to_x{got_x.data(), width};

      gather_rows(p.rows, width, view(x), p.row_token.data(), to_rows);
      expect_close(got_rows, gathered, 0.0, "gathered");
      gather_rows_backward(tokens, p.k, width, view(rows), p.row_of_choice.data(), to_x);
      expect_close(got_x, dx, 1e-6, "dx");
      combine_rows(tokens, p.k, width, view(rows), p.row_of_choice.data(), weights.data(), false, to_x);
      expect_close(got_x, y, 1e-6, "y");
      combine_rows_backward(tokens, p.k, width, view(dy), view(rows), p.row_of_choice.data(), weights.data(), to_rows,
                            got_weights.data());
      expect_close(got_rows, drows, 1e-6, "drows");
      expect_close(got_weights, dweights, 4e-6, "dweights");

      got_x = x;
      for (size_t i = 0; i < y.size(); ++i) y[i] += x[i];
      combine_rows(tokens, p.k, width, view(rows), p.row_of_choice.data(), weights.data(), true, to_x);
      expect_close(got_x, y, 1e-6, "added y");
    }
}

TEST_P(Rows, ScatterAddEqualsLoopsForEveryThreadCount) {
  const int64_t rows = 200, width = 150, places = 9;
  const auto from = normal_values(rows * width, 1), start = normal_values(places * width, 2);
  std::vector<int64_t> index;
  std::vector<double> want(start.begin(), start.end());
  for (int64_t r = 0; r < rows; ++r) {
    index.push_back(r * r % places);
    for (int64_t d = 0; d < width; ++d) want[static_cast<size_t>(index.back() * width + d)] += from[static_cast<size_t>(r * width + d)];
  }
  const int threads = omp_get_max_threads();
  std::vector<float> one = start, three = start;
  omp_set_num_threads(1);
  scatter_add_rows(rows, width, {from.data(), width}, index.data(), {one.data(), width});
  omp_set_num_threads(3);
  scatter_add_rows(rows, width, {from.data(), width}, index.data(), {three.data(), width});
  omp_set_num_threads(threads);
  EXPECT_EQ(one, three);
  expect_close(one, want, 1e-5, "sums");
}

TEST_P(Rows, ScatterAddScaledEqualsLoopsForEveryThreadCount) {
  const int64_t tokens = 60, k = 3, width = 150, places = 9;
  const auto x = normal_values(tokens * width, 1), start = normal_values(places * width, 2), weights = normal_values(tokens * k, 3);
  std::vector<int64_t> index;
  std::vector<double> want(start.begin(), start.end());
  for (int64_t c = 0; c < tokens * k; ++c) {
    index.push_back(c * c % places);
    for (int64_t d = 0; d < width; ++d)
      want[static_cast<size_t>(index.back() * width + d)] += double{weights[static_cast<size_t>(c)]} * x[static_cast<size_t>(c / k * width + d)];
  }
  const int threads = omp_get_max_threads();
  std::vector<float> one = start, three = start;
  omp_set_num_threads(1);
  scatter_add_scaled_rows(tokens, k, width, {x.data(), width}, weights.data(), index.data(), {one.data(), width});
  omp_set_num_threads(3);
  scatter_add_scaled_rows(tokens, k, width, {x.data(), width}, weights.data(), index.data(), {three.data(), width});
  omp_set_num_threads(threads);
  EXPECT_EQ(one, three);
  expect_close(one, want, 1e-5, "sums");
}

}  // namespace
}  // namespace switchyard::kernels
