// The transport plan: worked numbers, and properties of the optimum that know nothing of the iteration.
#include "core/sinkhorn.h"
#include "support/moe_oracle.h"

namespace switchyard::sinkhorn_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::all_close;

torch::Tensor example() { return testing::fixture_logits().slice(1, 0, 3).to(torch::kFloat64); }

torch::Tensor plan_after(int64_t iterations) { return sinkhorn_log_plan(example(), {.iterations = iterations, .tolerance = 0}).exp(); }

TEST(SinkhornPlan, ReproducesTheWorkedExample) {
  const auto plan = sinkhorn_log_plan(example(), {.tolerance = 1e-9}).exp();
  EXPECT_TRUE(all_close(plan[0], torch::tensor({.412166, .353228, .234606}), 1e-5));
  EXPECT_TRUE(all_close(plan[5], torch::tensor({.293749, .251745, .454506}), 1e-5));
  EXPECT_TRUE(torch::equal(plan.argmax(1), torch::tensor({0, 1, 0, 2, 1, 2}, torch::kInt64)));
}

TEST(SinkhornPlan, ColumnsAreExactAndRowsConvergeAsNoted) {
  const std::pair<int64_t, double> largest_row_error[] = {{1, 3.6e-1}, {2, 3.7e-2}, {5, 5.0e-5}, {10, 1.1e-9}};
  for (const auto& [iterations, want] : largest_row_error) {
    const auto plan = plan_after(iterations);
    EXPECT_TRUE(all_close(plan.sum(0), torch::full({3}, 2.0), 1e-12)) << iterations;
    EXPECT_NEAR((plan.sum(1) - 1).abs().max().item<double>() / want, 1, 0.05) << iterations;
  }
}

// Pi_ti Pi_sj / (Pi_tj Pi_si) = exp((z_ti + z_sj - z_tj - z_si) / tau): scalings of rows and columns cancel.
TEST(SinkhornPlan, KeepsEveryCrossRatio) {
  auto z = torch::empty({7, 4}, torch::kFloat32);
  RandomStream(3).fill_normal(z.data_ptr<float>(), z.numel());
  z = z.to(torch::kFloat64);
  for (const double tau : {0.3, 1.0, 2.0}) {
    const auto log_plan = sinkhorn_log_plan(z, {.tau = tau, .tolerance = 1e-10});
    const auto cross = [](const torch::Tensor& m, int64_t t, int64_t s, int64_t i, int64_t j) {
      return (m[t][i] + m[s][j] - m[t][j] - m[s][i]).item<double>();
    };
    for (int64_t t = 1; t < 7; ++t)
      for (int64_t i = 1; i < 4; ++i) EXPECT_NEAR(cross(log_plan, t, 0, i, 0), cross(z, t, 0, i, 0) / tau, 1e-9) << tau;
  }
}

TEST(SinkhornPlan, ConstantsPerRowOrColumnChangeNothing) {
  const auto want = sinkhorn_log_plan(example(), {.tolerance = 1e-10});
  const auto rows = torch::tensor({3., -2., 0., 5., 100., -1000.}, torch::kFloat64).unsqueeze(1);
  EXPECT_TRUE(all_close(sinkhorn_log_plan(example() + rows, {.tolerance = 1e-10}), want, 1e-8));
  EXPECT_TRUE(all_close(sinkhorn_log_plan(example() + torch::tensor({3., -2., 700.}, torch::kFloat64), {.tolerance = 1e-10}), want, 1e-8));
  EXPECT_EQ(sinkhorn_log_plan(torch::zeros({0, 3})).size(0), 0);
}

}  // namespace
}  // namespace switchyard::sinkhorn_test
