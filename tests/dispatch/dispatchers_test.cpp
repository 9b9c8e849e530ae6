// Every dispatcher on every number of ranks against the loop oracle, outputs and all gradients.
#include "dispatch/rank_cases.h"
#include "switchyard/communicator.h"

#include <functional>

namespace switchyard {
namespace {

using testing::all_close;
using testing::noise;
using testing::Pass;

struct Case {
  std::string name;
  int64_t tokens, experts, k;
  bool first_rank_is_idle = false;
};
std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.name; }

const std::vector<Case> kCases = {{"plain", 37, 12, 2},
                                  {"idle_rank", 37, 12, 2, true},
                                  {"only_the_outer_experts", 31, 12, 2, true},
                                  {"one_expert_takes_all", 29, 12, 1},
                                  {"k_is_E", 11, 12, 12, true},
                                  {"some_choose_nobody", 33, 12, 3},
                                  {"nobody_chooses", 9, 12, 2},
                                  {"more_experts_than_rows", 3, 12, 1},
                                  {"no_tokens", 0, 12, 2}};

TokenChoice choice_of(const Case& c) {
  auto scores = noise({c.tokens, c.experts}, 21);
  if (c.name == "only_the_outer_experts") scores.slice(1, 1, c.experts - 1).fill_(-std::numeric_limits<float>::infinity());
  auto ids = std::get<1>(scores.topk(c.k, -1));
  if (c.name == "one_expert_takes_all") ids.fill_(c.experts - 2);
  if (c.name == "some_choose_nobody") ids = ids.masked_fill(noise({c.tokens, c.k}, 22) > 0.3, -1);
  if (c.name == "nobody_chooses") ids.fill_(-1);
  return {ids, at::softmax(noise({c.tokens, c.k}, 23), -1) * (ids >= 0)};
}

struct Problem {
  Case c;
  torch::ScalarType dtype;
  TokenChoice choice;
  torch::Tensor x, dy;

  Problem(const Case& of, torch::ScalarType type) : c(of), dtype(type), choice(choice_of(of)) {
    x = noise({c.tokens, testing::kWidth}, 1).to(type);
    dy = noise({c.tokens, testing::kWidth}, 2).to(type);
  }
};

Pass by_loops(const Problem& p) {
  const auto bank = testing::bank_of(p.c.experts, {0, p.c.experts}, torch::kFloat64);
  const auto leaf = [](const torch::Tensor& v) { return v.detach().to(torch::kFloat64).requires_grad_(); };
  auto x = leaf(p.x), w = leaf(p.choice.weights), w_in = leaf(bank->named_parameters()["w_in"]), w_out = leaf(bank->named_parameters()["w_out"]);
  const auto y = testing::moe_by_loops(x, {p.choice.expert_ids, w}, {}, testing::ffn_expert("swiglu", w_in, w_out));
  ((y * p.dy.to(torch::kFloat64)).sum() + 0 * (w.sum() + w_in.sum() + w_out.sum())).backward();
  return {y.detach(), x.grad().defined() ? x.grad() : torch::zeros_like(x), w.grad(), w_in.grad(), w_out.grad()};
}

Pass alone(const Problem& p, const std::string& kind, std::shared_ptr<Communicator> communicator) {
  const auto dispatcher = dispatcher_registry().make(kind, DispatchShape{p.c.experts, std::move(communicator)});
  const auto bank = testing::bank_of(p.c.experts, dispatcher->local_experts(), p.dtype);
  return testing::pass_through(*dispatcher, *bank, p.x, {.choice = p.choice, .scores = {}}, p.dy, p.c.experts);
}

Pass on_ranks(const Problem& p, int64_t ranks) {
  const auto bounds = testing::token_bounds(p.c.tokens, ranks, p.c.first_rank_is_idle);
  std::vector<Pass> parts(static_cast<size_t>(ranks));
  for_each_rank(ranks, [&](const std::shared_ptr<Communicator>& comm) {
    const auto mine = [&, r = comm->rank()](const torch::Tensor& v) { return v.slice(0, bounds[r], bounds[r + 1]); };
    const auto dispatcher = dispatcher_registry().make("expert_parallel", DispatchShape{p.c.experts, comm});
    const auto bank = testing::bank_of(p.c.experts, dispatcher->local_experts(), p.dtype);
    const TokenChoice choice{mine(p.choice.expert_ids), mine(p.choice.weights)};
    parts[comm->rank()] = testing::pass_through(*dispatcher, *bank, mine(p.x), {.choice = choice, .scores = {}}, mine(p.dy), p.c.experts);
  });
  return testing::joined(parts);
}

struct Way {
  std::string name;
  std::function<Pass(const Problem&)> run;
};
const std::vector<Way> kWays = {{"local", [](const Problem& p) { return alone(p, "local", nullptr); }},
                                {"local_self", [](const Problem& p) { return alone(p, "local", self_communicator()); }},
                                {"no_communicator", [](const Problem& p) { return alone(p, "expert_parallel", nullptr); }},
                                {"self", [](const Problem& p) { return alone(p, "expert_parallel", self_communicator()); }},
                                {"threads_1", [](const Problem& p) { return on_ranks(p, 1); }},
                                {"threads_2", [](const Problem& p) { return on_ranks(p, 2); }},
                                {"threads_3", [](const Problem& p) { return on_ranks(p, 3); }},
                                {"threads_4", [](const Problem& p) { return on_ranks(p, 4); }},
                                {"threads_12", [](const Problem& p) { return on_ranks(p, 12); }}};

class Dispatchers : public ::testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Cases, Dispatchers, ::testing::ValuesIn(kCases), [](const auto& info) { return info.param.name; });

// `scale` is the tolerance of outputs relative to the largest one; gradients get twice as much.
void expect_close(const Pass& got, const Pass& want, double scale) {
  EXPECT_TRUE(all_close(got.y, want.y, scale));
  EXPECT_TRUE(all_close(got.dx, want.dx, 2 * scale));
  EXPECT_TRUE(all_close(got.dweights, want.dweights, 2 * scale));
  EXPECT_TRUE(all_close(got.dw_in, want.dw_in, 2 * scale));
  EXPECT_TRUE(all_close(got.dw_out, want.dw_out, 2 * scale));
}

TEST_P(Dispatchers, EqualLoopsInOutputAndAllGradients) {
  for (const auto dtype : {torch::kFloat32, torch::kFloat64}) {
    const Problem p(GetParam(), dtype);
    const auto want = by_loops(p);
    for (const auto& way : kWays) {
      SCOPED_TRACE(way.name);
      expect_close(way.run(p), want, dtype == torch::kFloat64 ? 1e-14 : 1e-6);
    }
  }
}

// Canonical order: the rows of an expert come in the same order on any number of ranks, so the same sums come out.
TEST_P(Dispatchers, GiveTheSameBitsOnAnyNumberOfRanks) {
  const Problem p(GetParam(), torch::kFloat32);
  const auto want = alone(p, "local", nullptr);
  for (const auto& way : kWays) {
    const auto got = way.run(p);
    EXPECT_TRUE(torch::equal(got.y, want.y)) << way.name;
    EXPECT_TRUE(torch::equal(got.dx, want.dx)) << way.name;
    EXPECT_TRUE(torch::equal(got.dweights, want.dweights)) << way.name;
    EXPECT_TRUE(torch::equal(got.dw_in, want.dw_in)) << way.name;
    EXPECT_TRUE(torch::equal(got.dw_out, want.dw_out)) << way.name;
  }
}

}  // namespace
}  // namespace switchyard
