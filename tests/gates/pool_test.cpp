// Units other than tokens, against means by loops; what follows from them for choices, weights and gradients.
#include "expect_error.h"
#include "support/gate_fixture.h"
#include "switchyard/loss.h"

#include <cmath>

namespace switchyard::pool_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::all_close;
using testing::expect_error;
using testing::finite_difference_gap;
using testing::fixture_logits;
using testing::gate_of;
using testing::gate_on_logits;
using testing::ids_of;
using testing::input_of;
using testing::normal;

constexpr int64_t kExperts = 4;

torch::Tensor ids(std::vector<int64_t> values) { return torch::tensor(values, torch::kInt64); }

GateInput in_sequences(const torch::Tensor& hidden, std::vector<int64_t> sequence, bool training = false) {
  auto in = input_of(hidden, training);
  in.sequence_ids = ids(std::move(sequence));
  return in;
}

// With the identity as router the logits of a token are its unit.
torch::Tensor units_of(const ConfigNode& pool, const GateInput& in) {
  return gate_on_logits({{"pool", pool}}, kExperts)->route(in).scores.logits;
}

ConfigNode segments(int64_t length) { return {{"kind", "segment"}, {"length", length}}; }
ConfigNode tags(int64_t count, const char* unit) { return {{"kind", "tag"}, {"tags", count}, {"unit", unit}}; }

// Sequence ---------------------------------------------------------------------------------------------------------------

TEST(SequencePool, UnitsAreMeansOfTheTokensOfEachSequence) {
  const auto x = normal({7, kExperts}, 1);
  const std::vector<int64_t> sequence = {5, 2, 5, 5, 2, 9, 2};
  const auto got = units_of("sequence", in_sequences(x, sequence));
  for (size_t t = 0; t < sequence.size(); ++t) {
    auto sum = torch::zeros({kExperts});
    double n = 0;
    for (size_t u = 0; u < sequence.size(); ++u)
      if (sequence[u] == sequence[t]) sum += x[static_cast<int64_t>(u)], ++n;
    EXPECT_TRUE(all_close(got[static_cast<int64_t>(t)], sum / n, 1e-6)) << t;
  }
}

TEST(SequencePool, TokensOfASequenceShareExpertsAndWeights) {
  auto gate = gate_on_logits({{"pool", "sequence"}, {"select", {{"kind", "top_k"}, {"k", 2}}}});
  const auto choice = std::get<TokenChoice>(gate->route(in_sequences(fixture_logits(), {0, 0, 0, 1, 1, 1})).choice);
  // Means of three rows of fixture A each: (2.3, 1, .5, -.1667), (1.2333, .7, .1333, .7667).
  EXPECT_TRUE(torch::equal(choice.expert_ids, ids_of({{0, 1}, {0, 1}, {0, 1}, {0, 3}, {0, 3}, {0, 3}})));
  EXPECT_NEAR(choice.weights[2][0].item<double>(), 1 / (1 + std::exp(-1.3)), 1e-5);
  EXPECT_NEAR(choice.weights[3][0].item<double>(), 1 / (1 + std::exp(-(3.7 - 2.3) / 3)), 1e-5);
  EXPECT_TRUE(gate->looks_ahead());
}

TEST(SequencePool, PaddingChangesNothingAndChoosesNobody) {
  auto gate = gate_on_logits({{"pool", "sequence"}});
  const auto x = normal({5, kExperts}, 2);
  const auto bare = gate->route(in_sequences(x, {0, 0, 1, 1, 1}));
  const auto garbage = torch::full({2, kExperts}, 1e9);
  for (const bool by_mask : {true, false}) {  // padding is what the mask says, or a negative sequence
    auto in = in_sequences(at::cat({x.slice(0, 0, 2), garbage, x.slice(0, 2)}), {0, 0, by_mask ? 0 : -1, by_mask ? 1 : -1, 1, 1, 1});
    if (by_mask) in.valid = torch::tensor({true, true, false, false, true, true, true});
    const auto padded = gate->route(in);
    const auto rows = ids({0, 1, 4, 5, 6});
    const auto &want = std::get<TokenChoice>(bare.choice), &got = std::get<TokenChoice>(padded.choice);
    EXPECT_TRUE(torch::equal(got.expert_ids.index_select(0, rows), want.expert_ids));
    EXPECT_TRUE(torch::equal(got.weights.index_select(0, rows), want.weights));
    EXPECT_TRUE((got.expert_ids.slice(0, 2, 4) == -1).all().item<bool>());
    EXPECT_EQ(got.weights.slice(0, 2, 4).abs().sum().item<double>(), 0);
  }
}

TEST(SequencePool, IsTheTokenGateWhenAllTokensOfASequenceAreEqual) {
  const auto x = normal({3, kExperts}, 3).repeat_interleave(4, 0);
  const auto want = testing::choose(*gate_on_logits({}), x);
  const auto got = std::get<TokenChoice>(gate_on_logits({{"pool", "sequence"}})->route(in_sequences(x, {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2})).choice);
  EXPECT_TRUE(torch::equal(got.expert_ids, want.expert_ids));
  EXPECT_TRUE(all_close(got.weights, want.weights, 1e-6));
}

TEST(SequencePool, EachOfNTokensGetsOneNthOfTheGradient) {
  auto x = normal({5, kExperts}, 4).requires_grad_();
  units_of("sequence", in_sequences(x, {0, 0, 0, 1, 1})).select(0, 0)[1].backward();  // the unit of token 0
  auto want = torch::zeros({5, kExperts});
  want.slice(0, 0, 3).select(1, 1).fill_(1.0 / 3);
  EXPECT_TRUE(all_close(x.grad(), want, 1e-6));
}

TEST(SequencePool, EmptyCallsAndMissingSequences) {
  const auto none = std::get<TokenChoice>(gate_on_logits({{"pool", "sequence"}})->route(in_sequences(torch::zeros({0, kExperts}), {})).choice);
  EXPECT_EQ(none.expert_ids.size(0), 0);
  expect_error(ErrorKind::usage, {"pool sequence", "sequence_ids"}, [] { (void)units_of("sequence", input_of(torch::zeros({2, kExperts}))); });
}

// Loss over sequences: long and short ones count alike.
TEST(LoadBalancePerSequence, CountsEverySequenceOnce) {
  auto gate = gate_on_logits({{"pool", "sequence"}, {"select", {{"kind", "top_k"}, {"k", 2}}}});
  const auto in = in_sequences(fixture_logits(), {0, 0, 0, 0, 1, 2});
  const auto stats = testing::stats_of(*gate, in, kExperts);
  const auto value = [&](ConfigNode::Table options) { return loss_registry().make(BlockSpec("load_balance", options))->value(stats).item<double>(); };
  // Oracle: three tokens, one per sequence, through the token gate.
  const auto means = at::stack({fixture_logits().slice(0, 0, 4).mean(0), fixture_logits()[4], fixture_logits()[5]});
  const auto of_three = testing::stats_of(*gate_on_logits({{"select", {{"kind", "top_k"}, {"k", 2}}}}), input_of(means), kExperts);
  for (const char* count : {"all", "first"}) {
    const double want = loss_registry().make(BlockSpec("load_balance", {{"count", count}}))->value(of_three).item<double>();
    EXPECT_NEAR(value({{"unit", "sequence"}, {"count", count}}), want, 1e-6) << count;
    EXPECT_GT(std::abs(value({{"count", count}}) - want), 1e-3) << "tokens are no sequences";
  }
  expect_error(ErrorKind::config, {"load_balance", "unit = 'page'"}, [&] { (void)value({{"unit", "page"}}); });
  expect_error(ErrorKind::config, {"load_balance", "sequences"}, [&] {
    (void)loss_registry().make(BlockSpec("load_balance", {{"unit", "sequence"}}))->value(of_three);
  });
}

TEST(LoadBalancePerSequence, GradientsOfWeightsAndLossMatchFiniteDifferences) {
  auto gate = gate_on_logits({{"pool", "sequence"}, {"select", {{"kind", "top_k"}, {"k", 2}}}});
  gate->to(torch::kFloat64);
  auto x = normal({6, kExperts}, 5).to(torch::kFloat64).requires_grad_();
  const auto target = normal({6, 2}, 6).to(torch::kFloat64);
  const auto loss = [&] {
    const auto in = in_sequences(x, {0, 0, 1, 1, 1, 2});
    const auto routing = gate->route(in);
    const auto balance = loss_registry().make(BlockSpec("load_balance", {{"unit", "sequence"}}))->value(routing_stats(routing, {}, in, 0, kExperts));
    return (std::get<TokenChoice>(routing.choice).weights * target).sum() + balance;
  };
  EXPECT_LT(finite_difference_gap(loss, x, 24), 1e-6);
}

// Segment ----------------------------------------------------------------------------------------------------------------

TEST(SegmentPool, UnitsAreMeansOfTheSegmentBeforeAndOfTheFirstItself) {
  const int64_t length = 3;
  const std::vector<int64_t> sequence = {0, 0, 0, 0, 0, 0, 0, 4, 4, 2, 2, 2, 2};
  const auto x = normal({13, kExperts}, 7);
  const auto got = units_of(segments(length), in_sequences(x, sequence));
  for (int64_t t = 0; t < 13; ++t) {
    const auto in_same = [&](int64_t u) { return sequence[static_cast<size_t>(u)] == sequence[static_cast<size_t>(t)]; };
    const auto place = [&](int64_t u) {
      int64_t n = 0;
      for (int64_t v = 0; v < u; ++v) n += in_same(v);
      return n;
    };
    const int64_t source = std::max<int64_t>(0, place(t) / length - 1);
    auto sum = torch::zeros({kExperts});
    double n = 0;
    for (int64_t u = 0; u < 13; ++u)
      if (in_same(u) && place(u) / length == source) sum += x[u], ++n;
    EXPECT_TRUE(all_close(got[t], sum / n, 1e-6)) << t;
  }
}

TEST(SegmentPool, GradientReachesTheSegmentBeforeAndNeverTheFirstFromItself) {
  const auto gradient_of = [](int64_t token) {
    auto x = normal({6, kExperts}, 8).requires_grad_();
    (units_of(segments(2), in_sequences(x, {0, 0, 0, 0, 0, 0}))[token].sum() + 0 * x.sum()).backward();
    return x.grad();
  };
  EXPECT_EQ(gradient_of(0).abs().sum().item<double>(), 0);
  for (int64_t token : {2, 4}) {
    auto want = torch::zeros({6, kExperts});
    want.slice(0, token - 2, token).fill_(0.5);
    EXPECT_TRUE(all_close(gradient_of(token), want, 1e-6)) << token;
  }
}

TEST(SegmentPool, PaddingBelongsToNoSegment) {
  const auto x = normal({6, kExperts}, 9);
  const auto bare = units_of(segments(2), in_sequences(x, {0, 0, 0, 0, 1, 1}));
  auto in = in_sequences(at::cat({x.slice(0, 0, 3), torch::full({1, kExperts}, 1e9), x.slice(0, 3)}), {0, 0, 0, 0, 0, 1, 1});
  in.valid = torch::tensor({true, true, true, false, true, true, true});
  EXPECT_TRUE(torch::equal(units_of(segments(2), in).index_select(0, ids({0, 1, 2, 4, 5, 6})), bare));
  EXPECT_EQ(units_of(segments(2), in_sequences(torch::zeros({0, kExperts}), {})).size(0), 0);
  expect_error(ErrorKind::config, {"pool segment", "length = 0"}, [] { (void)gate_on_logits({{"pool", segments(0)}}); });
}

// Tag --------------------------------------------------------------------------------------------------------------------

GateInput tagged(const torch::Tensor& hidden, std::vector<int64_t> tag, bool training = false) {
  auto in = input_of(hidden, training);
  in.tags = ids(std::move(tag));
  return in;
}

TEST(TagPool, AnEmbeddingPerTagDecidesAndContentDoesNot) {
  auto gate = gate_of({{"pool", tags(3, "embedding")}}, 8, kExperts);
  EXPECT_FALSE(gate->looks_ahead());
  const auto p = gate->named_parameters();
  ASSERT_EQ(p["pool.embedding"].sizes(), torch::IntArrayRef({3, 8})) << "one row per tag";
  auto x = normal({5, 8}, 10).requires_grad_();
  const auto routing = gate->route(tagged(x, {2, 0, 2, 1, 0}));
  const auto z = at::matmul(p["pool.embedding"], p["score.weight"].t()).index_select(0, ids({2, 0, 2, 1, 0}));
  EXPECT_TRUE(all_close(routing.scores.logits, z, 1e-6));
  const auto other = gate->route(tagged(normal({2, 8}, 11), {2, 0}));
  EXPECT_TRUE(torch::equal(std::get<TokenChoice>(other.choice).weights, std::get<TokenChoice>(routing.choice).weights.slice(0, 0, 2)));
  std::get<TokenChoice>(routing.choice).weights.select(1, 0).sum().backward();
  EXPECT_FALSE(x.grad().defined()) << "no gradient from single tokens";
  EXPECT_GT(p["pool.embedding"].grad().abs().sum().item<double>(), 0);
}

TEST(TagPool, MeansAreOverTheValidTokensOfTheTag) {
  const auto x = normal({5, kExperts}, 12);
  auto in = tagged(x, {1, 0, 1, -1, 1});
  in.valid = torch::tensor({true, true, true, false, true});
  const auto got = units_of(tags(2, "mean"), in);
  const auto of_one = (x[0] + x[2] + x[4]) / 3;
  EXPECT_TRUE(all_close(got.index_select(0, ids({0, 1, 2, 4})), at::stack({of_one, x[1], of_one, of_one}), 1e-6));
  EXPECT_TRUE(gate_on_logits({{"pool", tags(2, "mean")}})->looks_ahead());
}

TEST(TagPool, WrongTagsAreNamed) {
  const auto x = torch::zeros({2, kExperts});
  expect_error(ErrorKind::usage, {"pool tag", "tag 3", "0 .. 2"}, [&] { (void)units_of(tags(3, "embedding"), tagged(x, {1, 3})); });
  expect_error(ErrorKind::usage, {"pool tag", "tag -1"}, [&] { (void)units_of(tags(3, "mean"), tagged(x, {1, -1})); });
  expect_error(ErrorKind::usage, {"pool tag", "GateInput::tags"}, [&] { (void)units_of(tags(3, "mean"), input_of(x)); });
  expect_error(ErrorKind::config, {"pool tag", "tags = 0"}, [] { (void)gate_on_logits({{"pool", "tag"}}); });
  expect_error(ErrorKind::config, {"pool tag", "unit = 'sum'"}, [] { (void)gate_on_logits({{"pool", tags(2, "sum")}}); });
}

// Attributes and context -------------------------------------------------------------------------------------------------

TEST(AttributePool, UnitsAreTheNormalisedLinearImageOfTheBits) {
  for (const bool gelu : {false, true}) {
    auto gate = gate_of({{"pool", {{"kind", "attributes"}, {"bits", 3}, {"gelu", gelu}}}}, 8, kExperts);
    const auto p = gate->named_parameters();
    torch::NoGradGuard no_grad;
    p["pool.bias"].copy_(normal({8}, 13));
    p["pool.gain"].copy_(normal({8}, 14));
    p["pool.offset"].copy_(normal({8}, 15));
    const std::vector<int64_t> tag = {5, 0, 7, 5, 2};
    const auto z = gate->route(tagged(normal({5, 8}, 16), tag)).scores.logits;
    for (size_t t = 0; t < tag.size(); ++t) {
      auto a = p["pool.bias"].clone();
      for (int64_t i = 0; i < 3; ++i)
        if (tag[t] >> i & 1) a += p["pool.weight"].select(1, i);
      auto u = (a - a.mean()) / (a.var(false) + 1e-5).sqrt() * p["pool.gain"] + p["pool.offset"];
      if (gelu) u = at::gelu(u);
      EXPECT_TRUE(all_close(z[static_cast<int64_t>(t)], at::mv(p["score.weight"], u), 1e-5)) << t;
    }
    EXPECT_TRUE(torch::equal(z[0], z[3])) << "the plan is constant per vector of attributes";
  }
  expect_error(ErrorKind::usage, {"pool attributes", "tag 8", "bits = 3"}, [] {
    (void)gate_of({{"pool", {{"kind", "attributes"}, {"bits", 3}}}}, 8, kExperts)->route(tagged(torch::zeros({1, 8}), {8}));
  });
  expect_error(ErrorKind::config, {"pool attributes", "bits = 0"}, [] { (void)gate_of({{"pool", {{"kind", "attributes"}, {"bits", 0}}}}, 8, kExperts); });
}

TEST(ContextPool, UnitsAreALinearImageOfTheTokenAndTheMeanOfItsSequence) {
  auto gate = gate_on_logits({{"pool", "context"}});
  const auto w = gate->named_parameters()["pool.weight"];
  const auto x = normal({5, kExperts}, 17);
  auto in = in_sequences(x, {0, 0, 0, 1, 1});
  in.valid = torch::tensor({true, true, false, true, true});
  const auto z = gate->route(in).scores.logits;
  for (int64_t t : {0, 1, 3, 4}) {
    const auto mean = t < 2 ? (x[0] + x[1]) / 2 : (x[3] + x[4]) / 2;
    EXPECT_TRUE(all_close(z[t], at::mv(w, at::cat({x[t], mean})), 1e-5)) << t;
  }
  EXPECT_TRUE(gate->looks_ahead());
}

// Scores and weights that go with them -----------------------------------------------------------------------------------

TEST(LayerNormLinear, IsALinearScoreOfTheNormalisedUnit) {
  for (const bool norm_weights : {false, true}) {
    auto gate = gate_of({{"score", {{"kind", "layer_norm_linear"}, {"bias", true}, {"norm_weights", norm_weights}}}}, 6, kExperts);
    const auto p = gate->named_parameters();
    {
      torch::NoGradGuard no_grad;
      for (const char* name : {"score.gain", "score.offset"}) p[name].copy_(normal({6}, name[6]));
      p["score.bias"].copy_(normal({kExperts}, 20));
    }
    const auto norm = [](const torch::Tensor& v) { return (v - v.mean()) / (v.var(false) + 1e-5).sqrt(); };
    const auto x = normal({4, 6}, 18);
    const auto z = gate->route(input_of(x)).scores.logits;
    for (int64_t t = 0; t < 4; ++t)
      for (int64_t e = 0; e < kExperts; ++e) {
        const auto w = norm_weights ? norm(p["score.weight"][e]) : p["score.weight"][e];
        EXPECT_NEAR(z[t][e].item<double>(), (at::dot(w, norm(x[t]) * p["score.gain"] + p["score.offset"]) + p["score.bias"][e]).item<double>(), 1e-5);
      }
    gate->to(torch::kFloat64);
    auto y = x.to(torch::kFloat64).requires_grad_();
    const auto target = normal({4, 2}, 19);
    EXPECT_LT(finite_difference_gap([&] { return (std::get<TokenChoice>(gate->route(input_of(y)).choice).weights * target).sum(); }, y, 24), 1e-6);
  }
}

TEST(BeforeNoise, NoiseMovesTheChoiceAndLeavesTheWeights) {
  const ConfigNode::Table chain = {{"noise", {{"kind", "gaussian"}, {"std", 3.0}}}, {"weigh", "before_noise"}, {"select", {{"kind", "top_k"}, {"k", 2}}}};
  auto gate = gate_on_logits(chain, 8);
  const auto x = normal({50, 8}, 21);
  const auto quiet = testing::choose(*gate, x), noisy = testing::choose(*gate, x, /*training=*/true);
  EXPECT_FALSE(torch::equal(noisy.expert_ids, quiet.expert_ids));
  const auto p = at::softmax(x, 1).gather(1, noisy.expert_ids);
  EXPECT_TRUE(all_close(noisy.weights, p / p.sum(1, true), 1e-6));
  const auto plain = testing::choose(*gate_on_logits({{"select", {{"kind", "top_k"}, {"k", 2}}}}, 8), x);
  EXPECT_TRUE(torch::equal(quiet.expert_ids, plain.expert_ids)) << "off outside training";
  EXPECT_TRUE(all_close(quiet.weights, plain.weights, 1e-6));
  // The neighbour weighs with the noise: the same choice, other weights.
  auto with_noise = chain;
  with_noise[1].second = ConfigNode("renormalise");
  const auto other = testing::choose(*gate_on_logits(with_noise, 8), x, true);
  EXPECT_TRUE(torch::equal(other.expert_ids, noisy.expert_ids));
  EXPECT_FALSE(all_close(other.weights, noisy.weights, 1e-3));
}

}  // namespace
}  // namespace switchyard::pool_test
