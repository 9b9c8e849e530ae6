// The same weights under another specification.
#include "models/with_spec.h"

#include "expect_error.h"
#include "models/small_specs.h"

#include <gtest/gtest.h>

namespace switchyard::with_spec_test {
namespace {

torch::Tensor logits(LanguageModel& model) {
  const torch::NoGradGuard no_grad;
  const TokenBatch batch{.input_ids = torch::arange(12, torch::kInt64).view({1, 12}), .positions = {}, .segments = {}};
  return model.logits(model.forward(batch).hidden);
}

TEST(WithSpec, TheSameSpecificationIsTheSameFunctionOverTheSameMemory) {
  LanguageModel model(testing::mixtral_like_spec(), 3);
  model.eval();
  const auto same = with_spec(model, model.spec());
  EXPECT_TRUE(torch::equal(logits(*same), logits(model)));
  for (const auto& item : same->named_parameters()) EXPECT_EQ(item.value().data_ptr(), model.named_parameters()[item.key()].data_ptr()) << item.key();
}

// Oracle: a model that was built with the other rule, and given the weights one by one.
TEST(WithSpec, AnotherRuleIsTheModelBuiltWithThatRule) {
  LanguageModel model(testing::mixtral_like_spec(), 3);
  const std::string all[] = {"moe.gate.k=4"};
  ModelSpec spec = model.spec();
  spec.moe->gate = {"top_k", {{"k", 4}}};
  LanguageModel built(spec, 9);
  {
    const torch::NoGradGuard no_grad;
    for (auto& item : built.named_parameters()) item.value().copy_(model.named_parameters()[item.key()]);
  }
  built.eval();
  const auto changed = with_spec(model, changed_spec(model.spec(), all));
  EXPECT_TRUE(torch::equal(logits(*changed), logits(built)));
  EXPECT_FALSE(torch::equal(logits(*changed), logits(model)));
}

TEST(WithSpec, NamesWhatDoesNotFit) {
  LanguageModel model(testing::mixtral_like_spec(), 3);
  const auto change = [&](const std::string& assignment) {
    const std::string one[] = {assignment};
    return with_spec(model, changed_spec(model.spec(), one));
  };
  testing::expect_error(ErrorKind::config, {"parameter", "shape"}, [&] { (void)change("moe.num_experts=3"); });
  testing::expect_error(ErrorKind::config, {"parameter", "which the model has not"}, [&] { (void)change("num_layers=7"); });
  testing::expect_error(ErrorKind::config, {"num_expert", "num_experts"}, [&] { (void)change("moe.num_expert=3"); });
}

}  // namespace
}  // namespace switchyard::with_spec_test
