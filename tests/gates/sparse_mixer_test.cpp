// SparseMixer-v2 outside training, against the rule written out for each choice.
#include "support/gate_fixture.h"

#include <cmath>

namespace switchyard::sparse_mixer_test {  // its own: tests of a folder compile as one unit
namespace {

double share(const std::vector<double>& z, const std::vector<bool>& gone, size_t chosen, double eps) {
  double sum = 0;
  for (size_t i = 0; i < z.size(); ++i)
    if (!gone[i] && !((z[chosen] - z[i]) / std::max(std::abs(z[i]), z[chosen]) > 2 * eps)) sum += std::exp(z[i]);
  return std::exp(z[chosen]) / sum;
}

TEST(SparseMixer, WeightsAreSharesAmongThoseThatComeNear) {
  for (const double eps : {0.01, 0.2}) {
    auto gate = testing::gate_on_logits({{"select", {{"kind", "top_k"}, {"k", 2}}}, {"weigh", {{"kind", "sparse_mixer"}, {"eps", eps}}}});
    const auto z = torch::cat({2 * testing::normal({30, 4}, 1), torch::tensor({{1.0f, 0.99f, 0.985f, -1.0f}, {-0.5f, -0.5f, -2.0f, -3.0f}})});
    const auto choice = testing::choose(*gate, z);
    for (int64_t t = 0; t < z.size(0); ++t) {
      std::vector<double> row;
      for (int64_t e = 0; e < 4; ++e) row.push_back(z[t][e].item<double>());
      std::vector<bool> gone(4, false);
      for (int64_t j = 0; j < 2; ++j) {
        const auto id = static_cast<size_t>(choice.expert_ids[t][j].item<int64_t>());
        EXPECT_NEAR(choice.weights[t][j].item<double>(), share(row, gone, id, eps), 1e-5) << "token " << t << " choice " << j;
        gone[id] = true;
      }
    }
  }
}

}  // namespace
}  // namespace switchyard::sparse_mixer_test
