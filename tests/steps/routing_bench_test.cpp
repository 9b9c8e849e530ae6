// The routing bench against the calibration of the routing notes: another random generator, so that orders are compared,
// and only those whose gap exceeds the spread of the seeds there.
#include "steps/routing_bench.h"
#include "expect_error.h"
#include "steps/bench_comparison.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <vector>

namespace switchyard::routing_bench_test {
namespace {

MoESpec recipe(const BlockSpec& gate, std::vector<BlockSpec> losses = {}) {
  MoESpec out;
  out.gate = gate;
  out.losses = std::move(losses);
  return out;
}

const BlockSpec kTopOne = {"top_k", {{"k", 1}, {"renormalise", false}}};
BlockSpec balance(double weight) { return {"load_balance", {{"weight", weight}}}; }
BlockSpec expert_choice(double factor) {
  return {"chain", {{"select", ConfigNode{{"kind", "expert_choice"}, {"capacity_factor", factor}}}, {"weigh", "raw"}}};
}

// Means over three seeds.
RoutingBenchResult mean_of(const MoESpec& recipe) {
  RoutingBenchResult sum;
  for (uint64_t seed : {0, 1, 2}) {
    const auto r = run_routing_bench(recipe, {.seed = seed});
    sum.task_loss += r.task_loss / 3;
    sum.load_cv += r.load_cv / 3;
    sum.mutual_information += r.mutual_information / 3;
  }
  return sum;
}

// Notes: load CV .72 .87 .87 against .113, mutual information 1.56 to 1.74 against 2.05, loss .044 to .060 against .008.
TEST(RoutingBench, ABalanceLossEvensTheLoadOfTopOneAndItsExpertsFindTheClusters) {
  const auto free = mean_of(recipe(kTopOne)), balanced = mean_of(recipe(kTopOne, {balance(1)}));
  const double floor = std::sqrt(7.0 / 512);
  EXPECT_GT(free.load_cv, 3 * floor);
  EXPECT_LT(balanced.load_cv, 1.5 * floor);
  EXPECT_GT(balanced.mutual_information, free.mutual_information + 0.1);
  EXPECT_LE(balanced.mutual_information, std::log(8.0) + 1e-9);
  EXPECT_LT(balanced.task_loss, free.task_loss);
}

// Notes: .007 to .027 against .044 to .060. Every expert has every token: even load, and the expert says nothing of the cluster.
TEST(RoutingBench, TheDenseMixtureFitsBetterThanTopOneWithoutBalance) {
  const auto dense = mean_of(recipe("dense"));
  EXPECT_LT(dense.task_loss, mean_of(recipe(kTopOne)).task_loss);
  EXPECT_EQ(dense.load_cv, 0);
  EXPECT_NEAR(dense.mutual_information, 0, 1e-9);
}

// Notes: .005 to .025 against .040 to .043.
TEST(RoutingBench, ExpertChoiceIsEvenAndTwiceTheCapacityFitsBetter) {
  const auto once = mean_of(recipe(expert_choice(1))), twice = mean_of(recipe(expert_choice(2)));
  EXPECT_EQ(once.load_cv, 0);
  EXPECT_EQ(twice.load_cv, 0);
  EXPECT_LT(twice.task_loss, once.task_loss);
}

TEST(RoutingBench, CapacityDropsAndNullExpertsSave) {
  auto tight = recipe(kTopOne);
  tight.capacity.factor = 0.5;
  const auto dropped = run_routing_bench(tight, {.steps = 40});
  EXPECT_GE(dropped.dropped, 0.5);
  EXPECT_NEAR(dropped.experts_per_token, 1 - dropped.dropped, 1e-6);
  const BlockSpec null_gate = {"chain", {{"null_experts", 8}, {"select", ConfigNode{{"kind", "top_k"}, {"k", 4}}}, {"weigh", "renormalise"}}};
  const auto saved = run_routing_bench(recipe(null_gate, {{"gate_term", {{"term", "null_balance"}, {"weight", 0.1}}}}));
  EXPECT_NEAR(saved.experts_per_token, 2, 0.2);  // notes: 1.94 to 2.04
}

TEST(RoutingBench, RepeatsBitForBitAndFollowsTheSeed) {
  const auto a = run_routing_bench(recipe(kTopOne), {.steps = 31}), b = run_routing_bench(recipe(kTopOne), {.steps = 31});
  EXPECT_EQ(a.task_loss, b.task_loss);
  EXPECT_EQ(a.mutual_information, b.mutual_information);
  EXPECT_NE(a.task_loss, run_routing_bench(recipe(kTopOne), {.steps = 31, .seed = 1}).task_loss);
}

// What a recipe ties to sizes of its own stands in its [bench].
TEST(RoutingBench, TakesTheGateOfEveryRecipe) {
  std::vector<Recipe> recipes;
  for (const auto& entry : std::filesystem::directory_iterator(std::filesystem::path(SW_SOURCE_DIR) / "recipes/gates"))
    if (entry.path().extension() == ".toml") recipes.push_back(load_recipe(entry.path()));
  ASSERT_GE(recipes.size(), 45u);
  std::vector<std::string> left_out, sizes;
  const auto table = bench_recipes(recipes, {.seeds = 1, .steps = 2}, [&](const std::string& line) {
    (line.find("left out") != std::string::npos ? left_out : sizes).push_back(line);
  });
  EXPECT_EQ(table.rows.size(), recipes.size());
  for (const auto& line : left_out) ADD_FAILURE() << line;
  EXPECT_TRUE(std::any_of(sizes.begin(), sizes.end(), [](const auto& line) { return line.rfind("pangu-sigma-rre: on the bench with model.moe.gate.groups=4", 0) == 0; }));
}

TEST(RoutingBench, TagsGroupNeighbouringClustersAndSequencesMayHoldOneCluster) {
  const auto four = run_routing_bench(recipe("by_tag"), {.steps = 40, .tags = 4});
  EXPECT_NEAR(four.mutual_information, std::log(4.0), 0.01);
  for (size_t e = 4; e < 8; ++e) EXPECT_EQ(four.load[e], 0);
  const auto per_sequence = recipe({"chain", {{"pool", "sequence"}, {"select", {{"kind", "top_k"}, {"k", 1}}}, {"weigh", "raw"}}});
  EXPECT_LT(run_routing_bench(per_sequence, {.steps = 40}).mutual_information, 0.1);
  EXPECT_GT(run_routing_bench(per_sequence, {.steps = 40, .one_cluster_per_sequence = true}).mutual_information, 0.5);
  testing::expect_error(ErrorKind::config, {"tags = 3", "8 clusters"}, [] { (void)run_routing_bench(recipe("by_tag"), {.tags = 3}); });
}

TEST(RoutingBench, RefusesAGateThatDoesNotFit) {
  try {
    (void)run_routing_bench(recipe({"top_k", {{"k", 9}}}));
    FAIL() << "nine of eight experts";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::config);
  }
}

}  // namespace
}  // namespace switchyard::routing_bench_test
