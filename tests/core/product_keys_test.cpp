// Product keys against a search over all pairs, and rows of tables with their sparse gradients.
#include "core/product_keys.h"

#include "core/table_ops.h"
#include "expect_error.h"
#include "support/gate_fixture.h"
#include "switchyard/random.h"

#include <algorithm>
#include <chrono>
#include <numeric>

namespace switchyard::product_keys_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::all_close;
using testing::normal;

// Oracle: all n^2 sums, sorted by score, then by number.
std::vector<int64_t> brute_force(const torch::Tensor& first, const torch::Tensor& second, int64_t row, int64_t k) {
  const int64_t n = first.size(1);
  std::vector<int64_t> pairs(static_cast<size_t>(n * n));
  std::iota(pairs.begin(), pairs.end(), 0);
  const auto score = [&](int64_t p) { return first[row].data_ptr<float>()[p / n] + second[row].data_ptr<float>()[p % n]; };
  std::stable_sort(pairs.begin(), pairs.end(), [&](int64_t a, int64_t b) { return score(a) > score(b); });
  pairs.resize(static_cast<size_t>(k));
  return pairs;
}

std::vector<int64_t> row_of(const torch::Tensor& ids, int64_t row) {
  const auto r = ids[row].contiguous();
  return {r.data_ptr<int64_t>(), r.data_ptr<int64_t>() + r.size(0)};
}

// Quarters, so that sums are exact; with few values there are many ties.
torch::Tensor quarters(int64_t rows, int64_t n, uint64_t values, uint64_t seed) {
  auto x = torch::empty({rows, n});
  for (int64_t i = 0; i < x.numel(); ++i) x.data_ptr<float>()[i] = static_cast<float>(RandomStream(seed).below(static_cast<uint64_t>(i), values)) / 4;
  return x;
}

TEST(ProductKeys, GiveTheWorkedExample) {
  const auto top = product_top_k(torch::tensor({{.9f, .1f, -.4f, .6f}}), torch::tensor({{.2f, .8f, .45f, -.1f}}), 3);
  EXPECT_EQ(row_of(top.ids, 0), (std::vector<int64_t>{0 * 4 + 1, 3 * 4 + 1, 0 * 4 + 2}));
  EXPECT_TRUE(all_close(at::softmax(top.scores, 1), torch::tensor({{0.408913, 0.30293, 0.288156}}), 1e-5));
}

TEST(ProductKeys, EqualASearchOverAllPairsIncludingTies) {
  for (const auto& [n, k] : {std::pair<int64_t, int64_t>{1, 1}, {3, 9}, {5, 7}, {8, 3}, {16, 16}, {32, 4}})
    for (const uint64_t values : {2, 5, 1000}) {
      const auto first = quarters(20, n, values, 1), second = quarters(20, n, values, 2);
      const auto top = product_top_k(first, second, k);
      for (int64_t r = 0; r < 20; ++r) {
        const auto want = brute_force(first, second, r, k);
        ASSERT_EQ(row_of(top.ids, r), want) << "n=" << n << " k=" << k << " values=" << values << " row=" << r;
        for (int64_t j = 0; j < k; ++j)
          EXPECT_EQ(top.scores[r][j].item<float>(), first[r][want[static_cast<size_t>(j)] / n].item<float>() + second[r][want[static_cast<size_t>(j)] % n].item<float>());
      }
    }
}

TEST(ProductKeys, ShorterListsPerHalfMissSome) {
  // The three best pairs are (0, 0), (0, 1), (0, 2): the second half needs all three places.
  const auto first = torch::tensor({{10.f, 0.f, 0.f, 0.f}}), second = torch::tensor({{3.f, 2.f, 1.f, 0.f}});
  EXPECT_EQ(row_of(product_top_k(first, second, 3).ids, 0), (std::vector<int64_t>{0, 1, 2}));
  EXPECT_NE(row_of(product_top_k(first, second, 3, /*half=*/2).ids, 0), (std::vector<int64_t>{0, 1, 2}));
  testing::expect_error(ErrorKind::usage, {"5 of 2 x 2 pairs", "1 to 4"}, [&] { (void)product_top_k(first, second, 5, 2); });
}

TEST(ProductKeys, ScoresHaveTheGradientOfTheirHalves) {
  auto first = normal({3, 6}, 1).to(torch::kFloat64).requires_grad_(), second = normal({3, 6}, 2).to(torch::kFloat64).requires_grad_();
  const auto loss = [&] { return (product_top_k(first, second, 4).scores * torch::arange(1, 5, torch::kFloat64)).square().sum(); };
  EXPECT_LT(testing::finite_difference_gap(loss, first, 18), 1e-6);
  EXPECT_LT(testing::finite_difference_gap(loss, second, 18), 1e-6);
}

// Sixteen times as many experts, four times as many keys to look at.
TEST(ProductKeys, TimeGrowsWithTheRootOfTheNumberOfExperts) {
  const torch::NoGradGuard no_grad;
  const auto seconds = [](int64_t n) {
    const auto keys = normal({2, n, 16}, 1), query = normal({2, 512, 16}, 2);
    double best = 1e9;
    for (int repeat = 0; repeat < 7; ++repeat) {
      const auto start = std::chrono::steady_clock::now();
      const auto halves = at::bmm(query, keys.transpose(1, 2));
      (void)product_top_k(halves[0], halves[1], 4);
      best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    return best;
  };
  (void)seconds(64);
  EXPECT_LT(seconds(1024) / seconds(256), 10);
}

TEST(TableOps, EqualTheirDefinitionsForwardAndBackward) {
  for (const int64_t d : {1, 7, 33}) {
    const int64_t tokens = 11, reads_per_token = 5, count = 40;
    const auto ids = (torch::arange(tokens * reads_per_token, torch::kInt64).square() % 17).view({tokens, reads_per_token});
    const auto leaf = [](const torch::Tensor& x) { return x.detach().clone().requires_grad_(); };
    const auto x = leaf(normal({tokens, d}, 1)), table = leaf(normal({count, d}, 2)), weights = leaf(normal({tokens, reads_per_token}, 3));
    const auto x64 = leaf(x.to(torch::kFloat64)), table64 = leaf(table.to(torch::kFloat64)), weights64 = leaf(weights.to(torch::kFloat64));
    const ops::TableReads reads(ids);
    const auto dot = ops::table_dot(x, table, reads), sum = ops::table_sum(table, weights, reads);
    const auto rows = table64.index_select(0, ids.flatten()).view({tokens, reads_per_token, d});
    const auto want_dot = (rows * x64.unsqueeze(1)).sum(2), want_sum = (rows * weights64.unsqueeze(2)).sum(1);
    EXPECT_TRUE(all_close(dot, want_dot, 1e-6));
    EXPECT_TRUE(all_close(sum, want_sum, 1e-6));
    (dot.square().sum() + sum.square().sum()).backward();
    (want_dot.square().sum() + want_sum.square().sum()).backward();
    EXPECT_TRUE(all_close(x.grad(), x64.grad(), 1e-5));
    EXPECT_TRUE(all_close(weights.grad(), weights64.grad(), 1e-5));
    ASSERT_TRUE(table.grad().is_sparse());
    const auto gradient = table.grad().coalesce();
    EXPECT_TRUE(all_close(gradient.to_dense(), table64.grad(), 1e-5));
    EXPECT_TRUE(torch::equal(gradient.indices()[0], std::get<0>(at::_unique(ids)))) << "only rows that were read";
  }
}

TEST(TableOps, NothingReadIsNothing) {
  const auto table = normal({4, 3}, 1).requires_grad_();
  const ops::TableReads reads(torch::zeros({0, 2}, torch::kInt64));
  EXPECT_EQ(ops::table_dot(torch::zeros({0, 3}), table, reads).numel(), 0);
  EXPECT_EQ(ops::table_sum(table, torch::zeros({0, 2}), reads).numel(), 0);
}

}  // namespace
}  // namespace switchyard::product_keys_test
