// What a model tells its gates beside hidden states: tags, positions, and the token before when a cache holds it.
#include "core/ops.h"
#include "expect_error.h"
#include "models/golden.h"
#include "models/small_specs.h"
#include "test_files.h"

namespace switchyard::tags_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::expect_error;
using testing::small_spec;

ModelSpec with_gate(const BlockSpec& gate) {
  ModelSpec s = small_spec();
  s.moe->gate = gate;
  return s;
}

torch::Tensor some_ids(int64_t batch, int64_t seq) {
  auto ids = torch::empty({batch, seq}, torch::kInt64);
  for (int64_t i = 0; i < ids.numel(); ++i) ids.data_ptr<int64_t>()[i] = static_cast<int64_t>(RandomStream(3).below(static_cast<uint64_t>(i), 19));
  return ids;
}

torch::Tensor experts(LanguageModel& model, const TokenBatch& batch, KvCache* cache = nullptr, int64_t first_token = 0) {
  model.eval();
  ModelTrace trace;
  (void)model.forward(batch, {.first_token = first_token, .cache = cache, .trace = &trace});
  return std::get<TokenChoice>(trace.moe.at(1).routing.choice).expert_ids;
}

TEST(Tags, ReachTheGates) {
  LanguageModel model(with_gate("by_tag"), 1);
  TokenBatch batch{some_ids(2, 5), {}, {}};
  batch.tags = torch::tensor({3, 3, 1, 1, 1, 0, 0, 0, 2, 2}, torch::kInt64).view({2, 5});
  EXPECT_TRUE(torch::equal(experts(model, batch).view({2, 5}), batch.tags));
  batch.tags = torch::Tensor();
  expect_error(ErrorKind::usage, {"by_tag", "layers.1", "needs tags"}, [&] { (void)experts(model, batch); });
}

TEST(Tags, ATaggedModelLearnsTheSameWithRecomputedActivations) {
  LanguageModel model(with_gate({"by_tag", {{"reroute", 0.5}}}), 1);
  model.train();
  TokenBatch batch{some_ids(4, 6), {}, {}};
  batch.tags = torch::arange(4, torch::kInt64).unsqueeze(1).expand({4, 6});
  const auto gradients = [&](bool recompute) {
    model.zero_grad();
    model.logits(model.forward(batch, {.checkpoint_activations = recompute}).hidden).square().sum().backward();
    std::vector<torch::Tensor> out;
    for (const auto& p : model.parameters()) out.push_back(p.grad().clone());
    return out;
  };
  const auto kept = gradients(false), again = gradients(true);
  for (size_t i = 0; i < kept.size(); ++i) EXPECT_TRUE(torch::equal(kept[i], again[i])) << i;
}

// Oracle: the whole text in one call.
TEST(Hashes, OfTheTokenBeforeAreTheSameFromACache) {
  for (const char* key : {"previous", "bigram", "position", "token"}) {
    LanguageModel model(with_gate({"hash", {{"table", "fnv"}, {"key", key}}}), 1);
    const auto ids = some_ids(2, 9);
    const auto whole = experts(model, {ids, {}, {}}).view({2, 9});
    KvCache cache(model.spec(), 2, 9);
    std::vector<torch::Tensor> parts;
    int64_t at = 0;
    for (const int64_t n : {1, 3, 1, 1, 3}) {
      parts.push_back(experts(model, {ids.slice(1, at, at + n), {}, {}}, &cache).view({2, n}));
      at += n;
    }
    EXPECT_TRUE(torch::equal(at::cat(parts, 1), whole)) << key;
  }
}

// As generate() calls the model: one text, each call behind the last.
TEST(RandomGate, DrawsTheSameFromACache) {
  for (const char* unit : {"token", "sequence"}) {
    LanguageModel model(with_gate({"random", {{"eval_unit", unit}}}), 1);
    const auto ids = some_ids(1, 9);
    const auto whole = experts(model, {ids, {}, {}});
    KvCache cache(model.spec(), 1, 9);
    for (int64_t at = 0; at < 9; ++at)
      EXPECT_TRUE(torch::equal(experts(model, {ids.slice(1, at, at + 1), {}, {}}, &cache, at), whole.slice(0, at, at + 1))) << unit << " " << at;
    EXPECT_EQ(whole.max().item<int64_t>() == whole.min().item<int64_t>(), unit == std::string("sequence"));
  }
}

TEST(Hashes, SegmentsOfARowAreSequencesOfTheirOwn) {
  LanguageModel model(with_gate({"hash", {{"table", "fnv"}, {"key", "previous"}}}), 1);
  const auto ids = some_ids(1, 8);
  TokenBatch joined{ids, torch::tensor({0, 1, 2, 3, 4, 0, 1, 2}, torch::kInt64).view({1, 8}), torch::tensor({0, 0, 0, 0, 0, 1, 1, 1}, torch::kInt32).view({1, 8})};
  const auto alone = experts(model, {ids.slice(1, 5, 8), {}, {}});
  EXPECT_TRUE(torch::equal(experts(model, joined).slice(0, 5, 8), alone));
}

TEST(Hashes, TheTableIsSavedWithTheModel) {
  const testing::TempDir dir;
  const auto spec = with_gate({"hash", {{"table", "random"}, {"vocab_size", 19}}});
  const auto model = std::make_shared<LanguageModel>(spec, 77);
  save_checkpoint({model, nullptr, {}, {}}, dir / "model");
  const auto loaded = load_checkpoint(dir / "model");
  const TokenBatch batch{some_ids(2, 9), {}, {}};
  EXPECT_TRUE(torch::equal(experts(*loaded.model, batch), experts(*model, batch)));
  LanguageModel other(spec, 0);
  EXPECT_FALSE(torch::equal(experts(other, batch), experts(*model, batch)));
}

}  // namespace
}  // namespace switchyard::tags_test
