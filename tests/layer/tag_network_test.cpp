// The experts of one tag as a layer of their own.
#include "layer/tag_network.h"

#include "expect_error.h"
#include "support/gate_fixture.h"

namespace switchyard::tag_network_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::all_close;
using testing::expect_error;
using testing::normal;

const ConfigNode kTags = {{"kind", "tag"}, {"tags", 5}};
const ConfigNode kAttributes = {{"kind", "attributes"}, {"bits", 3}};

MoEOptions options_of(const ConfigNode& pool, int64_t k = 3, const char* kind = "swiglu", const char* combine = "outputs") {
  MoEOptions o{.d_model = 8, .d_expert = 6, .num_experts = 7,
               .gate = {"chain", {{"pool", pool}, {"select", {{"kind", "top_k"}, {"k", k}}}, {"combine", combine},
                                  {"score", {{"kind", "linear"}, {"init_scale", 10.0}}}}},
               .experts = kind};
  o.num_shared_experts = 1;
  o.init_std = o.init_out_std = 0.5;
  o.seed = 11;
  return o;
}

GateInput tagged(const torch::Tensor& tag) {
  GateInput in;
  in.tags = tag;
  return in;
}

int64_t count(const torch::nn::Module& module) {
  int64_t n = 0;
  for (const auto& p : module.parameters()) n += p.numel();
  return n;
}

TEST(TagNetwork, GivesTheTokensOfItsTagTheSameOutputBitForBit) {
  for (const ConfigNode& pool : {kTags, kAttributes}) {
    MoELayer layer(options_of(pool));
    const auto x = normal({40, 8}, 1);
    const auto tag = torch::arange(40, torch::kInt64) % 5;
    const auto all = layer.forward(x, tagged(tag));
    for (int64_t m = 0; m < 5; ++m) {
      const auto small = experts_of_tag(layer, m);
      const auto rows = (tag == m).nonzero().squeeze(1);
      const auto mine = x.index_select(0, rows);
      EXPECT_TRUE(torch::equal(small->forward(mine, {}), all.index_select(0, rows))) << m;
      EXPECT_EQ(small->options().num_experts, 3);
    }
  }
}

TEST(TagNetwork, HoldsADenseNetworkAndTheOtherChosenExpertsAndNoRouter) {
  MoELayer layer(options_of(kTags));
  const auto small = experts_of_tag(layer, 2);
  const auto ffn = layer.experts().parameters_per_expert();
  EXPECT_EQ(count(small->experts()), ffn + (3 - 1) * ffn);
  EXPECT_EQ(small->gate().num_parameters(), 0);
  EXPECT_EQ(small->gate().experts_per_token(), 3);
}

TEST(TagNetwork, LinearExpertsOfATagMergeIntoOneMatrix) {
  MoELayer layer(options_of(kAttributes, 2, "linear"));
  const auto x = normal({12, 8}, 2);
  for (int64_t m : {0, 3, 7}) {
    const auto one = merged_expert_of_tag(layer, m);
    ASSERT_EQ(one->options().num_experts, 1);
    EXPECT_TRUE(all_close(one->forward(x, {}), layer.forward(x, tagged(torch::full({12}, m, torch::kInt64))), 1e-5)) << m;
  }
  // With an activation in between only averaged parameters are one network.
  MoELayer outputs(options_of(kTags)), parameters(options_of(kTags, 3, "swiglu", "parameters"));
  const auto in = tagged(torch::full({12}, 1, torch::kInt64));
  EXPECT_TRUE(all_close(merged_expert_of_tag(parameters, 1)->forward(x, {}), parameters.forward(x, in), 1e-5));
  EXPECT_FALSE(all_close(merged_expert_of_tag(outputs, 1)->forward(x, {}), outputs.forward(x, in), 1e-3));
}

TEST(TagNetwork, RefusesGatesThatReadTheContent) {
  auto o = options_of("token");
  MoELayer layer(o);
  expect_error(ErrorKind::unsupported, {"content", "tag 1"}, [&] { (void)experts_of_tag(layer, 1); });
  MoELayer merging(options_of(kTags, 3, "swiglu", "parameters"));
  expect_error(ErrorKind::unsupported, {"averages", "merged_expert_of_tag"}, [&] { (void)experts_of_tag(merging, 1); });
}

}  // namespace
}  // namespace switchyard::tag_network_test
