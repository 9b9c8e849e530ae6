#include "eval/first_experts.h"
#include "switchyard/error.h"

#include <gtest/gtest.h>

namespace switchyard::first_experts_test {
namespace {

// Ids of one document, all of them scored.
data::TokenStream stream_of(const std::vector<int32_t>& ids, const std::vector<std::byte>& bits, const std::vector<data::TokenDocument>& documents) {
  return {std::as_bytes(std::span(ids)), 4, bits, documents};
}

struct Text {
  std::vector<int32_t> ids;
  std::vector<std::byte> bits;
  std::vector<data::TokenDocument> documents = {{.first_token = 0, .text_bytes = 100, .scored_bytes = 100}};
  explicit Text(int64_t n) : bits(static_cast<size_t>((n + 63) / 64 * 8), std::byte{0xFF}) {
    for (int64_t i = 0; i < n; ++i) ids.push_back(static_cast<int32_t>(i * i % 17));
  }
};

ModelSpec spec_of(const BlockSpec& gate) {
  ModelSpec spec{.vocab_size = 17, .d_model = 16, .num_layers = 2, .num_heads = 2, .d_ff = 16, .max_positions = 16, .moe = MoESpec{}};
  spec.moe->num_experts = 4;
  spec.moe->gate = gate;
  spec.moe->allow_lookahead = true;
  return spec.resolved();
}

// Against the trace of the same forward pass.
TEST(FirstExperts, AreTheFirstChoicesOfEveryToken) {
  const Text text(33);
  LanguageModel model(spec_of({"top_k", {{"k", 2}}}), 1);
  const auto got = first_experts(model, stream_of(text.ids, text.bits, text.documents), {.seq_len = 16});
  ASSERT_EQ(got.size(), 2u);
  model.eval();
  ModelTrace trace;
  const auto ids = torch::tensor(std::vector<int64_t>(text.ids.begin(), text.ids.begin() + 16), torch::kInt64).view({1, 16});
  (void)model.forward({.input_ids = ids, .positions = {}, .segments = {}}, {.trace = &trace});
  for (const auto& [layer, experts] : got) {
    ASSERT_GE(experts.size(), 32u);
    const auto chosen = std::get<TokenChoice>(trace.moe.at(layer).routing.choice).expert_ids;
    for (int64_t t = 0; t < 16; ++t) EXPECT_EQ(experts[static_cast<size_t>(t)], chosen[t][0].item<int64_t>()) << t;
  }
}

TEST(FirstExperts, AreTheHeaviestWhereExpertsChooseTokens) {
  const Text text(33);
  LanguageModel model(spec_of({"chain", {{"select", ConfigNode{{"kind", "expert_choice"}, {"capacity_factor", 0.5}}}, {"weigh", "raw"}}}), 1);
  const auto got = first_experts(model, stream_of(text.ids, text.bits, text.documents), {.seq_len = 16});
  int64_t nobody = 0;
  for (const int32_t e : got.at(0)) {
    EXPECT_TRUE(e >= -1 && e < 4);
    nobody += e < 0;
  }
  EXPECT_GT(nobody, 0) << "half a choice per token leaves some without";
}

TEST(FirstExperts, ChangesAreCounted) {
  const FirstExperts before = {{0, {0, 1, 2, 3}}, {2, {1, 1, -1, 1}}}, after = {{0, {0, 1, 3, 3}}, {2, {0, 0, 0, 1}}};
  const auto share = changed_share(before, after);
  EXPECT_EQ(share.at(0), 0.25);
  EXPECT_EQ(share.at(2), 0.75);
  EXPECT_EQ(changed_share(after, after).at(2), 0);
  EXPECT_THROW((void)changed_share(before, {{0, {0, 1}}, {2, {1, 1}}}), Error);
  EXPECT_THROW((void)changed_share({{0, {0}}}, before), Error);
}

}  // namespace
}  // namespace switchyard::first_experts_test
