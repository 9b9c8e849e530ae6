// Experts drawn at random: who shares a draw, and how often each expert comes.
#include "expect_error.h"
#include "support/gate_fixture.h"

#include <set>

namespace switchyard::random_gate_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::expect_error;

constexpr int64_t kExperts = 5;

std::shared_ptr<Gate> random_gate(ConfigNode::Table options = {}) {
  return gate_registry().make(BlockSpec("random", ConfigNode(std::move(options))), GateShape{8, kExperts, 0, 1});
}

GateInput call(int64_t num_tokens, bool training, uint64_t seed, int64_t first_token = 0) {
  GateInput in;
  in.hidden = torch::zeros({num_tokens, 8});
  in.training = training;
  in.random = RandomStream(seed);
  in.first_token = first_token;
  return in;
}

torch::Tensor experts(Gate& gate, const GateInput& in) { return std::get<TokenChoice>(gate.route(in).choice).expert_ids.view({-1}); }

double chi_squared(const torch::Tensor& ids) {
  const double mean = static_cast<double>(ids.numel()) / kExperts;
  return ((at::bincount(ids, {}, kExperts).to(torch::kFloat64) - mean).square() / mean).sum().item<double>();
}

constexpr double kOneInAThousand = 18.5;  // chi-squared of 4 degrees of freedom

TEST(RandomGate, InTrainingAllTokensOfTheStepShareOneExpertAndAllExpertsComeEquallyOften) {
  auto gate = random_gate();
  std::vector<int64_t> drawn;
  for (uint64_t step = 0; step < 2000; ++step) {
    const auto first = experts(*gate, call(7, true, step)), second = experts(*gate, call(3, true, step, /*first_token=*/7));
    EXPECT_TRUE(first.eq(first[0]).all().item<bool>());
    EXPECT_TRUE(second.eq(first[0]).all().item<bool>()) << "micro-batches of a step share the draw";
    drawn.push_back(first[0].item<int64_t>());
  }
  EXPECT_LT(chi_squared(torch::tensor(drawn, torch::kInt64)), kOneInAThousand);
}

TEST(RandomGate, OutsideTrainingEveryTokenDrawsAndTheCutIntoCallsDoesNotMatter) {
  auto gate = random_gate();
  const auto all = experts(*gate, call(5000, false, 3));
  EXPECT_LT(chi_squared(all), kOneInAThousand);
  EXPECT_TRUE(torch::equal(experts(*gate, call(70, false, 3, 30)), all.slice(0, 30, 100)));
  EXPECT_FALSE(torch::equal(experts(*gate, call(70, false, 4, 30)), all.slice(0, 30, 100)));
  EXPECT_EQ(experts(*gate, call(0, false, 3)).numel(), 0);
}

TEST(RandomGate, ASequenceSharesADrawHoweverItIsCut) {
  auto gate = random_gate({{"eval_unit", "sequence"}});
  auto in = call(4000, false, 3);
  in.sequence_ids = at::floor_divide(torch::arange(4000, torch::kInt64), 4);
  in.positions = torch::arange(4000, torch::kInt64).remainder(4);
  const auto rows = experts(*gate, in).view({1000, 4});
  EXPECT_TRUE(rows.eq(rows.slice(1, 0, 1)).all().item<bool>());
  EXPECT_LT(chi_squared(rows.select(1, 0).contiguous()), kOneInAThousand);
  // Token 2 of sequence 5 alone, as a cache would bring it.
  auto one = call(1, false, 3, 22);
  one.sequence_ids = torch::zeros({1}, torch::kInt64);
  one.positions = torch::full({1}, 2, torch::kInt64);
  EXPECT_EQ(experts(*gate, one)[0].item<int64_t>(), rows[5][0].item<int64_t>());
}

TEST(RandomGate, AllAveragesTheExperts) {
  auto gate = random_gate({{"eval_unit", "all"}});
  const auto choice = std::get<TokenChoice>(gate->route(call(3, false, 3)).choice);
  EXPECT_EQ(choice.expert_ids.size(1), kExperts);
  EXPECT_TRUE(testing::all_close(choice.weights, torch::full({3, kExperts}, 0.2), 1e-7));
  EXPECT_EQ(std::get<TokenChoice>(gate->route(call(3, true, 3)).choice).expert_ids.size(1), 1);
  expect_error(ErrorKind::config, {"train_unit = 'all'"}, [] { (void)random_gate({{"train_unit", "all"}}); });
  expect_error(ErrorKind::config, {"eval_unit = 'word'"}, [] { (void)random_gate({{"eval_unit", "word"}}); });
}

}  // namespace
}  // namespace switchyard::random_gate_test
