// Dropout inside experts.
#include "support/gate_fixture.h"
#include "switchyard/moe.h"

namespace switchyard::expert_dropout_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::normal;

MoE layer(double dropout) {
  return MoE({.d_model = 6, .d_expert = 64, .num_experts = 3, .gate = {"top_k", {{"k", 1}, {"renormalise", false}}},
              .experts = {"relu", {{"dropout", dropout}}}, .init_std = 0.5, .init_out_std = 0.5});
}

torch::Tensor run(MoE& moe, const torch::Tensor& x, bool training, uint64_t seed = 1, int64_t first_token = 0) {
  GateInput in;
  in.training = training;
  in.random = RandomStream(seed);
  in.first_token = first_token;
  return moe->forward(x, in);
}

TEST(ExpertDropout, TheMeanOverMasksIsTheOutputWithoutDropout) {
  auto with = layer(0.4), without = layer(0);
  const auto x = normal({4, 6}, 2);
  const auto want = run(without, x, true);
  EXPECT_TRUE(torch::equal(run(with, x, false), want)) << "off outside training";
  auto sum = torch::zeros_like(want);
  for (uint64_t seed = 0; seed < 3000; ++seed) sum += run(with, x, true, seed);
  EXPECT_TRUE(testing::all_close(sum / 3000, want, 0.05));
  EXPECT_FALSE(torch::equal(run(with, x, true), want));
}

TEST(ExpertDropout, TheMaskBelongsToTokenAndExpertAndNotToTheCall) {
  auto moe = layer(0.4);
  const auto x = normal({10, 6}, 3);
  const auto from_token_4 = x.slice(0, 4, 10).contiguous();
  EXPECT_TRUE(testing::all_close(run(moe, from_token_4, true, 1, 4), run(moe, x, true).slice(0, 4, 10), 1e-6));
}

}  // namespace
}  // namespace switchyard::expert_dropout_test
