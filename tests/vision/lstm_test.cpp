// LSTM cells as experts and experts between LSTM layers (arXiv:1701.06538).
#include "vision/lstm.h"

#include "expect_error.h"
#include "support/moe_oracle.h"
#include "vision/task.h"
#include "vision/training.h"

namespace switchyard::lstm_test {  // its own: tests of a folder compile as one unit
namespace {

using namespace vision;
using testing::all_close;

// Oracle: the equations, one sequence and step at a time.
torch::Tensor lstm_by_loops(const LstmCells& cells, int64_t n, const torch::Tensor& x) {
  const auto p = cells.named_parameters();
  const int64_t hidden = cells.hidden();
  std::vector<torch::Tensor> rows;
  for (int64_t b = 0; b < x.size(0); ++b) {
    auto h = torch::zeros({hidden}), c = torch::zeros({hidden});
    std::vector<torch::Tensor> steps;
    for (int64_t t = 0; t < x.size(1); ++t) {
      const auto z = at::mv(p["in"][n], x[b][t]) + at::mv(p["recurrent"][n], h) + p["bias"][n];
      const auto part = [&](int64_t i) { return z.slice(0, i * hidden, (i + 1) * hidden); };
      c = 1 / (1 + at::exp(-part(1))) * c + 1 / (1 + at::exp(-part(0))) * at::tanh(part(2));
      h = 1 / (1 + at::exp(-part(3))) * at::tanh(c);
      steps.push_back(h);
    }
    rows.push_back(at::stack(steps));
  }
  return at::stack(rows);
}

TEST(LstmCells, FollowTheEquations) {
  const torch::NoGradGuard no_grad;
  const LstmCells cells(2, 5, 4, RandomStream(1));
  const auto x = normal(RandomStream(2), {3, 6, 5});
  for (const int64_t n : {0, 1}) EXPECT_TRUE(all_close(run_cell(cells, n, x), lstm_by_loops(cells, n, x), 1e-5));
}

TEST(RecurrentExperts, OneOfOneIsAPlainLstm) {
  const torch::NoGradGuard no_grad;
  RecurrentExperts model({.experts = 1, .k = 1, .hidden = 4}, 5, 3);
  model.eval();
  const auto x = normal(RandomStream(2), {3, 6, 5});
  EXPECT_TRUE(all_close(model.forward(x), lstm_by_loops(model.cells(), 0, x), 1e-5));
}

// Each expert's state is that of its own cell run over the steps that were routed to it, and over no other.
TEST(RecurrentExperts, AStateMovesAtItsOwnStepsAlone) {
  const torch::NoGradGuard no_grad;
  RecurrentExperts model({.experts = 4, .k = 2, .hidden = 3}, 5, 3);
  model.eval();
  const auto x = normal(RandomStream(2), {3, 9, 5});
  RecurrentExperts::Trace trace;
  (void)model.forward(x, 0, &trace);
  int64_t skipped = 0;
  for (int64_t b = 0; b < 3; ++b)
    for (int64_t e = 0; e < 4; ++e) {
      const auto mine = (trace.chosen[b] == e).any(1).nonzero().view({-1});
      skipped += 9 - mine.size(0);
      const auto want = mine.size(0) == 0 ? torch::zeros({3}) : lstm_by_loops(model.cells(), e, x.slice(0, b, b + 1).index_select(1, mine))[0][-1];
      EXPECT_TRUE(all_close(trace.state.h[e][b], want, 1e-5)) << b << " " << e;
    }
  EXPECT_EQ(skipped, 3 * 9 * 2);
}

TEST(LstmCells, RowsThatAreNotSteppedKeepTheirBits) {
  const torch::NoGradGuard no_grad;
  const LstmCells cells(2, 5, 4, RandomStream(1));
  LstmCells::State state{normal(RandomStream(3), {2, 6, 4}), normal(RandomStream(4), {2, 6, 4})};
  const auto before = state;
  (void)cells.step(1, normal(RandomStream(2), {2, 5}), torch::tensor({1, 4}, torch::kInt64), state);
  for (int64_t b = 0; b < 6; ++b) {
    EXPECT_TRUE(torch::equal(state.h[0][b], before.h[0][b]));
    EXPECT_EQ(torch::equal(state.c[1][b], before.c[1][b]), b != 1 && b != 4) << b;
  }
}

TEST(RecurrentExperts, AlwaysSteppedTheirStatesAreThoseOfPlainLstms) {
  const torch::NoGradGuard no_grad;
  RecurrentExperts model({.experts = 3, .k = 1, .hidden = 4, .always_step = true}, 5, 3);
  model.eval();
  const auto x = normal(RandomStream(2), {2, 7, 5});
  RecurrentExperts::Trace trace;
  (void)model.forward(x, 0, &trace);
  for (int64_t e = 0; e < 3; ++e) EXPECT_TRUE(all_close(trace.state.h[e], lstm_by_loops(model.cells(), e, x).select(1, 6), 1e-5)) << e;
}

TEST(RecurrentExperts, GradientsMatchFiniteDifferencesInFloat64) {
  RecurrentExperts model({.experts = 3, .k = 2, .hidden = 3}, 4, 3);
  model.eval();
  model.to(torch::kFloat64);
  const auto x = normal(RandomStream(2), {2, 4, 4}).to(torch::kFloat64), dy = normal(RandomStream(5), {2, 4, 3}).to(torch::kFloat64);
  const auto loss = [&] { return (model.forward(x) * dy).sum(); };
  for (auto& item : model.cells().named_parameters()) EXPECT_LT(testing::finite_difference_gap(loss, item.value()), 1e-4) << item.key();
}

// Feed-forward experts have no state: all steps at once are each step alone.
TEST(LstmModel, ExpertsOverAllStepsAtOnceEqualStepByStep) {
  const torch::NoGradGuard no_grad;
  LstmModel model({.vocab = 9, .hidden = 6, .experts = 4, .k = 2, .d_expert = 8}, 3);
  model.eval();
  const auto x = normal(RandomStream(2), {3, 5, 6});
  const auto whole = (*model.layer())(x).hidden;
  for (int64_t t = 0; t < 5; ++t) EXPECT_TRUE(all_close((*model.layer())(x.slice(1, t, t + 1)).hidden.squeeze(1), whole.select(1, t), 1e-6)) << t;
}

TEST(LstmModel, LaterSymbolsChangeNothingBefore) {
  const torch::NoGradGuard no_grad;
  for (const char* between : {"none", "feed_forward", "recurrent"}) {
    LstmModel model({.vocab = 9, .hidden = 6, .experts = 4, .k = 2, .d_expert = 8, .between = between}, 3);
    model.eval();
    auto ids = integers(RandomStream(2), 14, 9).view({2, 7});
    const auto before = model.forward(ids).logits.slice(1, 0, 4).clone();
    ids.slice(1, 4) = 0;
    EXPECT_TRUE(all_close(model.forward(ids).logits.slice(1, 0, 4), before, 1e-6)) << between;
  }
  testing::expect_error(ErrorKind::config, {"between = 'lstm'"}, [] { LstmModel model({.between = "lstm"}, 1); });
}

TEST(LstmModel, TrainingLowersTheLossOfTheTask) {
  const auto loss = [](int64_t steps) {
    const BlockSpec task("lstm_experts", {{"between", "feed_forward"}, {"length", 12}, {"experts", 8}});
    return value_of(task_registry().make(task)->run({.seed = 1, .steps = steps}), "test_loss");
  };
  EXPECT_LT(loss(40), loss(1));
}

}  // namespace
}  // namespace switchyard::lstm_test
