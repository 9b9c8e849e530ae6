// The part of a model that one tag uses.
#include "models/tag_model.h"

#include "expect_error.h"
#include "models/small_specs.h"
#include "switchyard/checkpoint.h"
#include "test_files.h"

namespace switchyard::tag_model_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::expect_error;
using testing::small_spec;

ModelSpec by_tag(const BlockSpec& gate) {
  ModelSpec s = small_spec();
  s.num_layers = 4;  // two with experts
  s.moe->gate = gate;
  s.moe->num_shared_experts = 1;
  return s;
}

const BlockSpec kTaskGate = {"chain", {{"pool", {{"kind", "tag"}, {"tags", 3}}}, {"select", {{"kind", "top_k"}, {"k", 2}}}}};
BlockSpec merging() {
  BlockSpec gate = kTaskGate;
  gate.options.table()->emplace_back("combine", "parameters");
  return gate;
}

TokenBatch batch_of(int64_t tag) {
  auto ids = torch::empty({3, 11}, torch::kInt64);
  for (int64_t i = 0; i < ids.numel(); ++i) ids.view({-1})[i] = static_cast<int64_t>(RandomStream(3).below(static_cast<uint64_t>(i), 19));
  return {ids, {}, {}, torch::full({3, 11}, tag, torch::kInt64)};
}

torch::Tensor logits(LanguageModel& model, TokenBatch batch, bool with_tags) {
  torch::NoGradGuard no_grad;
  model.eval();
  if (!with_tags) batch.tags = torch::Tensor();
  return model.logits(model.forward(batch).hidden);
}

TEST(TagModel, SavedAndLoadedItGivesTheSameLogitsBitForBitAndNeedsNoTags) {
  for (const BlockSpec& gate : {kTaskGate, BlockSpec("by_tag"), BlockSpec("by_tag", {{"map", ConfigNode::Array{2, 1, 2}}})}) {
    LanguageModel whole(by_tag(gate), 7);
    for (const int64_t tag : {0, 2}) {
      const testing::TempDir dir;
      save_checkpoint({model_of_tag(whole, tag), nullptr, {}, {}}, dir / "part");
      const auto part = load_checkpoint(dir / "part");
      EXPECT_EQ(part.model->spec().moe->num_experts, gate.kind == "chain" ? 2 : 1);
      EXPECT_TRUE(torch::equal(logits(*part.model, batch_of(tag), false), logits(whole, batch_of(tag), true))) << gate.kind << " " << tag;
      EXPECT_FALSE(torch::equal(logits(*part.model, batch_of(tag), false), logits(whole, batch_of(1), true))) << gate.kind << " " << tag;
    }
  }
}

TEST(TagModel, HoldsTheExpertsOfTheTagAloneAndNoRouter) {
  LanguageModel whole(by_tag(kTaskGate), 7);
  const auto before = count_parameters(whole.spec()), after = count_parameters(model_of_tag(whole, 1)->spec());
  const auto part = [](const ParameterCount& count, const std::string& name) {
    for (const auto& p : count.parts)
      if (p.name == name) return p.total;
    return int64_t{-1};
  };
  EXPECT_EQ(part(after, "experts") * 2, part(before, "experts"));
  EXPECT_EQ(part(after, "router"), 0);
  EXPECT_EQ(part(after, "shared experts"), part(before, "shared experts"));
}

TEST(TagModel, AMergedExpertIsEqualUpToRounding) {
  LanguageModel whole(by_tag(merging()), 7);
  const auto part = model_of_tag(whole, 1);
  EXPECT_EQ(part->spec().moe->num_experts, 1);
  EXPECT_LT((logits(*part, batch_of(1), false) - logits(whole, batch_of(1), true)).abs().max().item<double>(), 1e-4);
}

TEST(TagModel, RefusesModelsThatHaveNoPartForATag) {
  const auto refused = [](const BlockSpec& gate, std::initializer_list<std::string_view> words) {
    LanguageModel model(by_tag(gate), 7);
    expect_error(ErrorKind::unsupported, words, [&] { (void)model_of_tag(model, 1); });
  };
  refused("top_k", {"gate 'top_k' in layers.1", "depends on the content"});
  refused({"random", {{"eval_unit", "batch"}}}, {"gate 'random' in layers.1", "does not go by tags"});
  refused({"tag_hash", {{"groups", 2}, {"vocab_size", 19}}}, {"gate 'tag_hash'", "depends on the content"});
  // A second expert only where its weight is large: two layers that do not agree.
  LanguageModel uneven(by_tag({"chain", {{"pool", {{"kind", "tag"}, {"tags", 3}}}, {"select", {{"kind", "top_k"}, {"k", 2}}},
                                        {"keep", {{"kind", "random_second"}, {"policy", "threshold"}, {"threshold", 0.3}}}}}), 7);
  {
    torch::NoGradGuard no_grad;
    uneven.named_parameters()["layers.1.ffn.gate.score.weight"].zero_();  // 1/2 and 1/2
    auto one = uneven.named_parameters()["layers.3.ffn.gate.score.weight"];
    one.zero_();
    one[2].copy_(100 * uneven.named_parameters()["layers.3.ffn.gate.pool.embedding"][1]);
  }
  expect_error(ErrorKind::unsupported, {"layers.1.ffn gives tag 1 2 experts", "layers.3.ffn 1"}, [&] { (void)model_of_tag(uneven, 1); });
  ModelSpec listed = by_tag(kTaskGate);
  listed.moe->every = 1;
  listed.moe->offset = 0;
  listed.pattern.resize(2);
  for (LayerSpec& layer : listed.pattern) layer.kind = "attention+moe";
  listed.pattern[1].moe = ConfigNode{{"num_experts", 3}};
  LanguageModel own(listed, 7);
  expect_error(ErrorKind::unsupported, {"model.pattern", "experts of their own"}, [&] { (void)model_of_tag(own, 1); });
  ModelSpec copied = by_tag(kTaskGate);
  copied.moe->num_shared_experts = 0;
  copied.moe->site = "layer";
  LanguageModel copies(copied, 7);
  expect_error(ErrorKind::unsupported, {"layers.1", "none can be taken out"}, [&] { (void)model_of_tag(copies, 1); });
  LanguageModel dense(testing::llama_like_spec(), 7);
  expect_error(ErrorKind::unsupported, {"no Mixture-of-Experts layer"}, [&] { (void)model_of_tag(dense, 0); });
}

}  // namespace
}  // namespace switchyard::tag_model_test
