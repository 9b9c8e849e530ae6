// Gates that follow the tags of tokens: by_tag and tag_hash, alone and in a layer.
#include "expect_error.h"
#include "support/gate_fixture.h"
#include "switchyard/moe.h"

#include <limits>

namespace switchyard::tag_gates_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::expect_error;
using testing::normal;

torch::Tensor column(std::vector<int64_t> ids) { return torch::tensor(ids, torch::kInt64); }

std::shared_ptr<Gate> gate(const char* kind, ConfigNode::Table options, int64_t num_experts, int64_t layer = 0, uint64_t seed = 1) {
  return gate_registry().make(BlockSpec(kind, ConfigNode(std::move(options))), GateShape{8, num_experts, layer, seed});
}

// Tokens in sequences of `length`, one tag per sequence.
GateInput sequences(const std::vector<int64_t>& tags, int64_t length, bool training = false) {
  const auto count = static_cast<int64_t>(tags.size());
  GateInput in;
  in.hidden = normal({count * length, 8}, 3);
  in.sequence_ids = torch::arange(count, torch::kInt64).repeat_interleave(length);
  in.tags = column(tags).repeat_interleave(length);
  in.token_ids = torch::arange(count * length, torch::kInt64).remainder(19);
  in.training = training;
  return in;
}

torch::Tensor experts(Gate& g, const GateInput& in) { return std::get<TokenChoice>(g.route(in).choice).expert_ids.view({-1}); }

MoE layer(const BlockSpec& spec, int64_t num_experts) {
  return MoE({.d_model = 8, .d_expert = 6, .num_experts = num_experts, .gate = spec, .init_std = 0.5, .init_out_std = 0.5});
}

const BlockSpec kThreeLanguages = {"by_tag", {{"map", ConfigNode::Array{ConfigNode(2), ConfigNode(0), ConfigNode(2)}}}};

TEST(ByTag, AllTokensOfASequenceGoToTheExpertOfTheirTag) {
  auto named = gate_registry().make(kThreeLanguages, GateShape{8, 4, 0, 1});
  EXPECT_TRUE(torch::equal(experts(*named, sequences({0, 1, 2, 1}, 2)), column({2, 2, 0, 0, 2, 2, 0, 0})));
  EXPECT_TRUE(torch::equal(experts(*gate("by_tag", {}, 4), sequences({0, 3, 2}, 1)), column({0, 3, 2})));
  EXPECT_EQ(named->num_parameters(), 0);
  EXPECT_EQ(experts(*named, sequences({}, 2)).numel(), 0);
}

TEST(ByTag, LoadsAreExactlyTheSharesOfTheGroups) {
  const auto in = sequences({0, 1, 2, 1, 1, 0, 2, 2, 0, 1}, 7);
  const auto stats = testing::stats_of(*gate_registry().make(kThreeLanguages, GateShape{8, 4, 0, 1}), in, 4);
  EXPECT_TRUE(torch::equal(stats.counts, torch::tensor({28.f, 0.f, 42.f, 0.f})));
}

TEST(ByTag, AMissingOrUnknownTagIsAnErrorAndPaddingNeedsNone) {
  auto named = gate_registry().make(kThreeLanguages, GateShape{8, 4, 3, 1});
  auto in = sequences({0, 1}, 2);
  in.tags = column({0, 0, 3, 3});
  expect_error(ErrorKind::config, {"by_tag", "layers.3", "tag 3", "0 to 2"}, [&] { (void)named->route(in); });
  in.tags = column({0, 0, 1, -1});
  expect_error(ErrorKind::config, {"tag -1"}, [&] { (void)named->route(in); });
  in.valid = torch::tensor({true, true, true, false});
  EXPECT_TRUE(torch::equal(experts(*named, in).slice(0, 0, 3), column({2, 2, 0})));
  in.tags = torch::Tensor();
  expect_error(ErrorKind::usage, {"by_tag", "needs tags"}, [&] { (void)named->route(in); });
  expect_error(ErrorKind::config, {"map[1] = 4"}, [] { (void)gate("by_tag", {{"map", ConfigNode::Array{ConfigNode(0), ConfigNode(4)}}}, 4); });
  expect_error(ErrorKind::config, {"reroute = 1.5"}, [] { (void)gate("by_tag", {{"reroute", 1.5}}, 4); });
}

TEST(ByTag, OnlyTheExpertsOfTheTagsThatCameLearn) {
  auto moe = layer(kThreeLanguages, 4);
  moe->forward(normal({6, 8}, 1), sequences({0, 2, 0}, 2, true)).square().sum().backward();
  for (const auto& p : moe->experts().named_parameters()) {
    const auto per_expert = p.value().grad().abs().flatten(1).sum(1);
    for (int64_t e = 0; e < 4; ++e) EXPECT_EQ(per_expert[e].item<double>() > 0, e == 2) << p.key() << " " << e;
  }
}

TEST(ByTag, WithoutTheOtherExpertsTheOutputIsBitEqual) {
  auto moe = layer(kThreeLanguages, 4);
  const auto in = sequences({1, 1}, 5);
  const auto x = normal({10, 8}, 1);
  const auto before = moe->forward(x, in);
  const torch::NoGradGuard no_grad;
  for (auto& p : moe->experts().named_parameters()) p.value().slice(0, 1).fill_(std::numeric_limits<float>::quiet_NaN());
  EXPECT_TRUE(torch::equal(moe->forward(x, in), before));
}

TEST(ByTag, ReroutingMovesItsShareOfTheSequencesWholeAndOnlyInTraining) {
  const std::vector<int64_t> tags(4000, 1);
  auto moved = gate("by_tag", {{"reroute", 0.2}}, 5);
  auto in = sequences(tags, 3, /*training=*/true);
  in.random = RandomStream(4);
  const auto rows = experts(*moved, in).view({4000, 3});
  EXPECT_TRUE(rows.eq(rows.slice(1, 0, 1)).all().item<bool>());
  const auto counts = at::bincount(rows.select(1, 0).contiguous(), {}, 5).to(torch::kFloat64);
  EXPECT_NEAR(counts[1].item<double>(), 3200, 4 * std::sqrt(4000 * 0.2 * 0.8));
  for (const int64_t e : {0, 2, 3, 4}) EXPECT_NEAR(counts[e].item<double>(), 200, 4 * std::sqrt(4000 * 0.05 * 0.95)) << e;
  // A micro-batch of its own draws the same.
  GateInput part = sequences(std::vector<int64_t>(10, 1), 3, true);
  part.random = in.random;
  part.first_token = 300;
  EXPECT_TRUE(torch::equal(experts(*moved, part).view({10, 3}), rows.slice(0, 100, 110)));
  in.training = false;
  EXPECT_TRUE(experts(*moved, in).eq(1).all().item<bool>());
}

// Two levels -----------------------------------------------------------------------------------------------------------------

TEST(TagHash, StaysInTheGroupOfTheTagAndDealsTheIdsEqually) {
  auto g = gate("tag_hash", {{"groups", 3}, {"vocab_size", 101}}, 12);
  for (int64_t tag = 0; tag < 3; ++tag) {
    GateInput in;
    in.hidden = torch::zeros({101, 8});
    in.token_ids = torch::arange(101, torch::kInt64);
    in.tags = torch::full({101}, tag, torch::kInt64);
    const auto counts = at::bincount(experts(*g, in), {}, 12);
    EXPECT_EQ(counts.slice(0, 4 * tag, 4 * tag + 4).sum().item<int64_t>(), 101);
    EXPECT_EQ(counts.slice(0, 4 * tag, 4 * tag + 4).max().item<int64_t>(), 26);
    EXPECT_EQ(counts.slice(0, 4 * tag, 4 * tag + 4).min().item<int64_t>(), 25);
  }
  EXPECT_EQ(g->num_parameters(), 0);
}

TEST(TagHash, EveryLayerGroupAndSeedHasAMapOfItsOwnThatDoesNotDependOnContext) {
  const auto table = [](int64_t l, uint64_t seed) { return gate("tag_hash", {{"groups", 2}, {"vocab_size", 50}}, 8, l, seed)->named_buffers()["table"]; };
  EXPECT_TRUE(torch::equal(table(0, 1), table(0, 1)));
  EXPECT_FALSE(torch::equal(table(0, 1), table(1, 1)));
  EXPECT_FALSE(torch::equal(table(0, 1), table(0, 2)));
  EXPECT_FALSE(torch::equal(table(0, 1)[0], table(0, 1)[1]));
  auto g = gate("tag_hash", {{"groups", 2}, {"vocab_size", 50}}, 8);
  auto in = sequences({0, 1, 1}, 10);
  const auto before = experts(*g, in);
  in.hidden = normal({30, 8}, 77);
  in.training = true;
  in.random = RandomStream(9);
  EXPECT_TRUE(torch::equal(experts(*g, in), before));
}

// Of uniform ids the loads are as uneven as chance makes them: the deviation of a multinomial.
TEST(TagHash, TheLoadOfUniformIdsIsAtTheMultinomialFloor) {
  auto g = gate("tag_hash", {{"groups", 2}, {"vocab_size", 800}}, 16);
  GateInput in;
  in.hidden = torch::zeros({20000, 8});
  in.token_ids = torch::empty({20000}, torch::kInt64);
  in.tags = torch::empty({20000}, torch::kInt64);
  for (int64_t t = 0; t < 20000; ++t) {
    in.token_ids[t] = static_cast<int64_t>(RandomStream(5).below(static_cast<uint64_t>(t), 800));
    in.tags[t] = t % 2;
  }
  const auto stats = testing::stats_of(*g, in, 16);
  EXPECT_LT(stats.load_cv(), 1.5 * stats.load_cv_floor());
  EXPECT_GT(stats.load_cv(), 0.3 * stats.load_cv_floor());
}

TEST(TagHash, AGroupCutOutGivesTheSameBitsForItsTag) {
  const auto spec = [](int64_t groups) { return BlockSpec{"tag_hash", ConfigNode{{"groups", groups}, {"vocab_size", 19}}}; };
  auto whole = layer(spec(3), 12), part = layer(spec(1), 4);
  const auto in = sequences({1, 1, 1, 1}, 11);
  const auto x = normal({44, 8}, 2);
  {
    const torch::NoGradGuard no_grad;
    part->named_buffers()["gate.table"].copy_(whole->named_buffers()["gate.table"].slice(0, 1, 2));
    auto from = whole->experts().named_parameters();
    for (auto& p : part->experts().named_parameters()) p.value().copy_(from[p.key()].slice(0, 4, 8));
  }
  auto alone = in;
  alone.tags = torch::zeros_like(in.tags);
  EXPECT_TRUE(torch::equal(part->forward(x, alone), whole->forward(x, in)));
}

TEST(TagHash, NamesWhatIsMissingOrWrong) {
  expect_error(ErrorKind::config, {"groups = 5", "num_experts = 12"}, [] { (void)gate("tag_hash", {{"groups", 5}, {"vocab_size", 9}}, 12); });
  expect_error(ErrorKind::config, {"vocab_size = 0"}, [] { (void)gate("tag_hash", {{"groups", 3}}, 12); });
  auto g = gate("tag_hash", {{"groups", 3}, {"vocab_size", 19}}, 12);
  auto in = sequences({0, 1}, 2);
  in.tags = torch::Tensor();
  expect_error(ErrorKind::usage, {"tag_hash", "needs tags"}, [&] { (void)g->route(in); });
  in = sequences({0, 1}, 2);
  in.token_ids = torch::Tensor();
  expect_error(ErrorKind::usage, {"tag_hash", "token_ids"}, [&] { (void)g->route(in); });
  in.token_ids = column({0, 1, 19, 2});
  expect_error(ErrorKind::config, {"token id 19", "18"}, [&] { (void)g->route(in); });
}

}  // namespace
}  // namespace switchyard::tag_gates_test
