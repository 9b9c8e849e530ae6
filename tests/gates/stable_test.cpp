// StableMoE: what is learned in stage 1, and what never moves in stage 2.
#include "expect_error.h"
#include "support/gate_fixture.h"

#include <cmath>

namespace switchyard::stable_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::all_close;
using testing::choose;
using testing::normal;

std::shared_ptr<Gate> stable(int64_t stage_steps, int64_t num_experts = 4) {
  return gate_registry().make(BlockSpec("stable", {{"vocab_size", 10}, {"stage_steps", stage_steps}, {"width", 6}}), GateShape{5, num_experts, 0, 1});
}

GateInput tokens(const torch::Tensor& hidden, const torch::Tensor& ids) {
  GateInput in = testing::input_of(hidden, true);
  in.token_ids = ids;
  return in;
}

GateInput sample(uint64_t seed) { return tokens(normal({40, 5}, seed), torch::arange(40, torch::kInt64).remainder(12)); }

TEST(StableMoE, StageOneIsGreedyByCentroidsWithSigmoidWeights) {
  auto gate = stable(5);
  const auto in = sample(2);
  const auto choice = std::get<TokenChoice>(gate->route(in).choice);
  const auto z = at::matmul(in.hidden, gate->named_parameters()["centroids"].t());
  EXPECT_TRUE(torch::equal(choice.expert_ids.select(1, 0), z.argmax(1)));
  EXPECT_TRUE(all_close(choice.weights, at::sigmoid(z.gather(1, choice.expert_ids)), 1e-6));
}

TEST(StableMoE, TermsEqualTheirDefinitionsTokenByToken) {
  auto gate = stable(5);
  auto in = sample(2);
  in.valid = torch::ones({40}, torch::kBool);
  in.valid.slice(0, 36) = false;
  const auto routing = gate->route(in);
  const auto ids = std::get<TokenChoice>(routing.choice).expert_ids;
  const auto p = gate->named_parameters();
  std::vector<double> count(4, 0), sum(4, 0);
  double surprise = 0;
  for (int64_t t = 0; t < 36; ++t) {
    const auto a = ids[t][0].item<int64_t>();
    count[static_cast<size_t>(a)] += 1;
    sum[static_cast<size_t>(a)] += at::sigmoid((in.hidden[t] * p["centroids"][a]).sum()).item<double>();
    const auto row = std::min<int64_t>(in.token_ids[t].item<int64_t>(), 10);  // ids beyond the vocabulary share one row
    surprise -= at::log_softmax(at::mv(p["word_centroids"], p["words"][row]), 0)[a].item<double>();
  }
  double balance = 0;
  for (size_t e = 0; e < 4; ++e) balance += (count[e] - 9) / 9 * sum[e];
  EXPECT_NEAR(routing.terms.at("balance").item<double>(), balance, 1e-4);
  EXPECT_NEAR(routing.terms.at("distil").item<double>(), surprise, 1e-3);
}

TEST(StableMoE, TheBalanceTermIsZeroAtEqualCountsAndPushesOverloadedExpertsAway) {
  auto gate = stable(5, 2);
  {
    torch::NoGradGuard no_grad;
    gate->named_parameters()["centroids"].zero_();
    gate->named_parameters()["centroids"][0][0] = 1;
    gate->named_parameters()["centroids"][1][0] = -1;
  }
  auto x = torch::zeros({4, 5});
  x.select(1, 0).copy_(torch::tensor({1.f, 1.f, -1.f, -1.f}));
  const auto ids = torch::zeros({4}, torch::kInt64);
  EXPECT_NEAR(gate->route(tokens(x, ids)).terms.at("balance").item<double>(), 0, 1e-6);
  x[2][0] = 1;  // three for expert 0, one for expert 1
  gate->route(tokens(x, ids)).terms.at("balance").backward();
  EXPECT_GT(gate->named_parameters()["centroids"].grad()[0][0].item<float>(), 0) << "descent lowers the affinity to the overloaded expert";
}

TEST(StableMoE, FrozenRoutingDependsOnTheTokenIdAloneAndItsRouterHasNoGradient) {
  auto gate = stable(3);
  const auto learned = std::get<TokenChoice>(gate->route(sample(2)).choice).expert_ids;
  for (int step = 0; step < 3; ++step) gate->update({});
  const auto a = gate->route(sample(2)), b = gate->route(sample(3));  // other hidden states, the same ids
  const auto table = std::get<TokenChoice>(a.choice).expert_ids;
  EXPECT_TRUE(torch::equal(table, std::get<TokenChoice>(b.choice).expert_ids));
  EXPECT_FALSE(torch::equal(table, learned));
  for (int64_t t = 12; t < 40; ++t) EXPECT_EQ(table[t][0].item<int64_t>(), table[t % 12][0].item<int64_t>());
  (std::get<TokenChoice>(a.choice).weights.sum() + a.terms.at("balance") + a.terms.at("distil")).backward();
  EXPECT_FALSE(gate->named_parameters()["words"].grad().defined());
  EXPECT_FALSE(gate->named_parameters()["word_centroids"].grad().defined());
  EXPECT_GT(gate->named_parameters()["centroids"].grad().abs().sum().item<float>(), 0);
}

// Descent on the distillation term makes the table agree with a gate whose choice is a function of the id.
TEST(StableMoE, TheDistilledRouterLearnsWhatTheGateDoes) {
  auto gate = stable(400);
  const auto of_id = normal({10, 5}, 7);
  const auto ids = torch::arange(10, torch::kInt64).repeat({4});
  const auto in = tokens(of_id.index_select(0, ids), ids);
  const auto learned = std::get<TokenChoice>(gate->route(in).choice).expert_ids.clone();
  for (int step = 0; step < 400; ++step) {
    gate->zero_grad();
    gate->route(in).terms.at("distil").backward();
    torch::NoGradGuard no_grad;
    for (const char* name : {"words", "word_centroids"}) gate->named_parameters()[name].sub_(gate->named_parameters()[name].grad() * 0.02);
    gate->update({});
  }
  EXPECT_TRUE(torch::equal(std::get<TokenChoice>(gate->route(in).choice).expert_ids, learned)) << "frozen now, and in agreement";
}

TEST(StableMoE, SaysWhatItNeeds) {
  testing::expect_error(ErrorKind::usage, {"stable", "token_ids"}, [] { (void)choose(*stable(3), normal({4, 5}, 1)); });
  testing::expect_error(ErrorKind::config, {"vocab_size = 0"}, [] { (void)gate_registry().make(BlockSpec("stable"), GateShape{5, 4, 0, 1}); });
}

}  // namespace
}  // namespace switchyard::stable_test
