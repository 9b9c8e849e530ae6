// Copies of whole layers behind a route per task. Oracle: the plain model whose layers are the chosen copies.
#include "expect_error.h"
#include "layer/tag_network.h"
#include "models/layer_copies.h"
#include "models/small_specs.h"
#include "support/gate_fixture.h"
#include "switchyard/checkpoint.h"
#include "test_files.h"

#include <c10/core/GradMode.h>
#include <torch/optim/adam.h>

#include <cmath>
#include <set>

namespace switchyard::layer_copies_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::all_close;
using testing::expect_error;

constexpr int64_t kCopies = 3, kTags = 4;
constexpr uint64_t kSeed = 1;  // tags 0 and 1 differ in every layer

BlockSpec task_gate(const char* select = "dense_to_sparse") {
  return {"chain", {{"pool", {{"kind", "tag"}, {"tags", kTags}}}, {"score", {{"kind", "mlp"}, {"hidden", 8}}}, {"noise", "gumbel"},
                    {"normalise", {{"kind", "annealed_softmax"}, {"from", 1.0}, {"to", 0.5}}},
                    {"select", select == std::string("top_k") ? ConfigNode{{"kind", "top_k"}, {"k", 1}} : ConfigNode{{"kind", select}, {"threshold", 0.0}}},
                    {"weigh", "straight_through"}}};
}

ModelSpec copies_spec(int64_t every = 1) {
  ModelSpec s = testing::small_spec();
  s.moe->site = "layer";
  s.moe->num_experts = kCopies;
  s.moe->every = every;
  s.moe->offset = every - 1;
  s.moe->gate = task_gate();
  return s.resolved();
}

torch::Tensor some_ids(int64_t batch, int64_t seq) {
  auto ids = torch::empty({batch, seq}, torch::kInt64);
  for (int64_t i = 0; i < ids.numel(); ++i) ids.data_ptr<int64_t>()[i] = static_cast<int64_t>(RandomStream(3).below(static_cast<uint64_t>(i), 19));
  return ids;
}

TokenBatch tagged(const torch::Tensor& ids, std::vector<int64_t> tag_of_row) {
  TokenBatch batch{ids, {}, {}};
  batch.tags = torch::tensor(tag_of_row, torch::kInt64).unsqueeze(1).expand_as(ids).contiguous();
  return batch;
}

torch::Tensor logits(LanguageModel& model, const TokenBatch& batch, ForwardOptions options = {}) {
  const c10::NoGradGuard no_grad;
  return model.logits(model.forward(batch, options).hidden);
}

// Copy of each layer for each tag, in evaluation.
std::vector<int64_t> route_of(LanguageModel& model, int64_t tag) {
  model.eval();
  ModelTrace trace;
  (void)logits(model, tagged(some_ids(1, 2) % model.spec().vocab_size, {tag}), {.trace = &trace});
  std::vector<int64_t> out;
  for (const auto& [layer, moe] : trace.moe) out.push_back(std::get<TokenChoice>(moe.routing.choice).expert_ids[0][0].item<int64_t>());
  return out;
}

// Two tags whose first choice is not the same copy.
std::pair<int64_t, int64_t> tags_apart(LanguageModel& model) {
  for (int64_t tag = 1; tag < kTags; ++tag)
    if (route_of(model, tag)[0] != route_of(model, 0)[0]) return {0, tag};
  ADD_FAILURE() << "all tags take the same route: another seed is needed";
  return {0, 1};
}

// The model without experts whose layers are those copies.
std::shared_ptr<LanguageModel> plain_model(LanguageModel& model, const std::vector<int64_t>& route) {
  auto plain = std::make_shared<LanguageModel>(spec_of_copy(model.spec()), std::nullopt);
  const c10::NoGradGuard no_grad;
  const auto from = model.named_parameters();
  for (auto& item : plain->named_parameters()) {
    std::string name = item.key();
    if (name.rfind("layers.", 0) == 0 && !from.contains(name)) {
      const auto dot = name.find('.', 7);
      name = name.substr(0, dot) + ".copies.experts." + std::to_string(route[std::stoul(name.substr(7))]) + name.substr(dot);
    }
    item.value().copy_(from[name]);
  }
  plain->eval();
  return plain;
}

void scale_copy(LanguageModel& model, int64_t layer, int64_t copy, double factor) {
  const c10::NoGradGuard no_grad;
  const std::string prefix = fmt::format("layers.{}.copies.experts.{}.", layer, copy);
  for (auto& item : model.named_parameters())
    if (item.key().rfind(prefix, 0) == 0) item.value().mul_(factor);
}

TEST(LayerCopies, NoTwoCopiesBeginAlike) {
  LanguageModel model(copies_spec(), kSeed);
  const auto p = model.named_parameters();
  for (const char* name : {"attn.q_proj", "attn.o_proj", "ffn.w_in", "ffn.w_out"})
    for (int64_t i = 1; i < kCopies; ++i)
      EXPECT_GT((p[fmt::format("layers.0.copies.experts.0.{}", name)] - p[fmt::format("layers.0.copies.experts.{}.{}", i, name)]).abs().mean().item<double>(), 1e-2);
  LanguageModel again(copies_spec(), kSeed);
  EXPECT_TRUE(torch::equal(p["layers.1.copies.experts.2.ffn.w_in"], again.named_parameters()["layers.1.copies.experts.2.ffn.w_in"]));
}

TEST(LayerCopies, ATaskRunsThroughThePlainModelOfItsCopiesBitForBit) {
  LanguageModel model(copies_spec(), kSeed);
  const auto ids = some_ids(2, 7);
  std::set<std::vector<int64_t>> routes;
  for (int64_t tag = 0; tag < kTags; ++tag) {
    const auto route = route_of(model, tag);
    routes.insert(route);
    EXPECT_TRUE(torch::equal(logits(model, tagged(ids, {tag, tag})), logits(*plain_model(model, route), {ids, {}, {}}))) << tag;
  }
  EXPECT_GT(routes.size(), 1u);
}

TEST(LayerCopies, RowsOfDifferentTasksDoNotMeet) {
  LanguageModel model(copies_spec(), kSeed);
  const auto ids = some_ids(4, 7);
  model.eval();
  const auto all = logits(model, tagged(ids, {0, 1, 2, 3}));
  for (int64_t tag = 0; tag < kTags; ++tag) {
    const auto route = route_of(model, tag);
    EXPECT_TRUE(all_close(all[tag], logits(*plain_model(model, route), {ids.slice(0, tag, tag + 1), {}, {}})[0], 1e-5)) << tag;
  }
}

TEST(LayerCopies, DocumentsOfOneRowTakeTheirOwnRoutes) {
  LanguageModel model(copies_spec(), kSeed);
  const auto ids = some_ids(1, 9);
  TokenBatch joined{ids, torch::tensor({0, 1, 2, 3, 4, 0, 1, 2, 3}, torch::kInt64).view({1, 9}), torch::tensor({0, 0, 0, 0, 0, 1, 1, 1, -1}, torch::kInt32).view({1, 9})};
  const auto [a, b] = tags_apart(model);
  joined.tags = torch::tensor({a, a, a, a, a, b, b, b, int64_t{-1}}, torch::kInt64).view({1, 9});
  const auto all = logits(model, joined);
  EXPECT_TRUE(all_close(all.slice(1, 0, 5), logits(model, tagged(ids.slice(1, 0, 5), {a})), 1e-5));
  EXPECT_TRUE(all_close(all.slice(1, 5, 8), logits(model, tagged(ids.slice(1, 5, 8), {b})), 1e-5));
}

TEST(LayerCopies, ASequenceOfTwoTasksIsRefused) {
  LanguageModel model(copies_spec(), kSeed);
  const auto [a, b] = tags_apart(model);
  TokenBatch batch = tagged(some_ids(2, 4), {a, a});
  batch.tags[1].slice(0, 2).fill_(b);
  expect_error(ErrorKind::usage, {"a sequence is split", "pool = 'tag'", "cross_documents"}, [&] { (void)logits(model, batch); });
}

// NaN anywhere else would be seen.
TEST(LayerCopies, EvaluationTouchesOneCopyPerLayer) {
  LanguageModel model(copies_spec(), kSeed);
  const auto batch = tagged(some_ids(2, 6), {2, 2});
  const auto route = route_of(model, 2);
  const auto before = logits(model, batch);
  for (int64_t layer = 0; layer < 2; ++layer)
    for (int64_t copy = 0; copy < kCopies; ++copy)
      if (copy != route[static_cast<size_t>(layer)]) scale_copy(model, layer, copy, std::nan(""));
  EXPECT_TRUE(torch::equal(logits(model, batch), before));
}

TEST(LayerCopies, InTrainingTheOutputIsThatOfOneCopyPerLayerThoughAllOfThemRun) {
  LanguageModel model(copies_spec(), kSeed);
  model.train();
  const auto batch = tagged(some_ids(2, 6), {2, 2});
  ModelTrace trace;
  const auto before = logits(model, batch, {.seed = 4, .trace = &trace});
  for (int64_t layer = 0; layer < 2; ++layer) {
    const auto& choice = std::get<TokenChoice>(trace.moe.at(layer).routing.choice);
    EXPECT_EQ(choice.expert_ids.size(1), kCopies);
    for (int64_t copy = 0; copy < kCopies; ++copy)
      if (copy != choice.expert_ids[0][0].item<int64_t>()) scale_copy(model, layer, copy, 3);
  }
  EXPECT_TRUE(torch::equal(logits(model, batch, {.seed = 4}), before));
}

TEST(LayerCopies, GradientsReachTheRouterAndOnlyTheCopyThatWasSampled) {
  LanguageModel model(copies_spec(), kSeed);
  model.train();
  const auto batch = tagged(some_ids(2, 6), {2, 2});
  ModelTrace trace;
  model.logits(model.forward(batch, {.trace = &trace}).hidden).square().sum().backward();
  const auto p = model.named_parameters();
  EXPECT_GT(p["layers.0.copies.gate.score.outer"].grad().abs().sum().item<double>(), 0);
  EXPECT_GT(p["layers.0.copies.gate.pool.embedding"].grad()[2].abs().sum().item<double>(), 0);
  const auto best = std::get<TokenChoice>(trace.moe.at(0).routing.choice).expert_ids[0][0].item<int64_t>();
  for (int64_t copy = 0; copy < kCopies; ++copy)
    EXPECT_EQ(p[fmt::format("layers.0.copies.experts.{}.attn.v_proj", copy)].grad().abs().sum().item<double>() > 0, copy == best) << copy;
}

TEST(LayerCopies, ActivationCheckpointingChangesNoGradient) {
  for (const char* select : {"dense_to_sparse", "top_k"}) {
    auto spec = copies_spec();
    spec.moe->gate = task_gate(select);
    spec.dropout = 0.1;
    LanguageModel model(spec, kSeed);
    model.train();
    const auto batch = tagged(some_ids(3, 6), {2, 0, 1});
    const auto gradients = [&](bool recompute) {
      model.zero_grad();
      model.logits(model.forward(batch, {.checkpoint_activations = recompute}).hidden).square().sum().backward();
      std::vector<torch::Tensor> out;
      for (const auto& p : model.parameters()) out.push_back(p.grad().defined() ? p.grad().clone() : torch::zeros_like(p));
      return out;
    };
    const auto kept = gradients(false), again = gradients(true);
    for (size_t i = 0; i < kept.size(); ++i) EXPECT_TRUE(torch::equal(kept[i], again[i])) << select << " " << i;
  }
}

// Oracle: the whole text in one call.
TEST(LayerCopies, ACacheKeepsTheKeysOfTheChosenCopies) {
  LanguageModel model(copies_spec(2), kSeed);
  const auto [a, b] = tags_apart(model);
  for (const int64_t other : {a, b}) {
    const auto batch = tagged(some_ids(2, 9), {a, other});
    const auto whole = logits(model, batch);
    KvCache cache(model.spec(), 2, 9);
    int64_t at = 0;
    for (const int64_t n : {3, 1, 1, 2, 2}) {
      TokenBatch part{batch.input_ids.slice(1, at, at + n).contiguous(), {}, {}};
      part.tags = batch.tags.slice(1, at, at + n).contiguous();
      EXPECT_TRUE(all_close(logits(model, part, {.cache = &cache}), whole.slice(1, at, at + n), 1e-5)) << at;
      at += n;
    }
  }
}

TEST(LayerCopies, ACacheWithPaddingInFrontOfTheAnswer) {
  LanguageModel model(copies_spec(), kSeed);
  const auto [a, b] = tags_apart(model);
  const auto batch = tagged(some_ids(2, 6), {a, b});
  auto segments = torch::zeros({2, 4}, torch::kInt32);
  segments[1].slice(0, 3).fill_(-1);  // the second prompt has three tokens
  KvCache cache(model.spec(), 2, 6);
  TokenBatch prompt{batch.input_ids.slice(1, 0, 4).contiguous(), {}, segments};
  prompt.tags = batch.tags.slice(1, 0, 4).contiguous();
  EXPECT_TRUE(all_close(logits(model, prompt, {.cache = &cache})[1].slice(0, 0, 3),
                        logits(model, tagged(batch.input_ids.slice(0, 1).slice(1, 0, 3), {b}))[0], 1e-5));
  TokenBatch next{batch.input_ids.slice(1, 4, 5).contiguous(), torch::tensor({{4}, {3}}, torch::kInt64), {}};
  next.tags = batch.tags.slice(1, 4, 5).contiguous();
  const auto ids = at::cat({batch.input_ids[1].slice(0, 0, 3), batch.input_ids[1].slice(0, 4, 5)}).unsqueeze(0);
  EXPECT_TRUE(all_close(logits(model, next, {.cache = &cache})[1][0], logits(model, tagged(ids, {b}))[0][3], 1e-5));
}

TEST(LayerCopies, ACacheRefusesSeveralCopiesPerText) {
  LanguageModel model(copies_spec(), kSeed);
  KvCache cache(model.spec(), 1, 9);
  model.train();  // all copies run
  expect_error(ErrorKind::unsupported, {"layers.0", "one copy per text"}, [&] { (void)logits(model, tagged(some_ids(1, 4), {0}), {.cache = &cache}); });
  const auto [a, b] = tags_apart(model);
  TokenBatch batch = tagged(some_ids(1, 4), {a});
  batch.tags.slice(1, 2).fill_(b);
  expect_error(ErrorKind::usage, {"layers.0", "several copies", "one tag"}, [&] { (void)logits(model, batch, {.cache = &cache}); });
}

TEST(LayerCopies, AreCountedWhole) {
  for (const int64_t every : {1, 2}) {
    LanguageModel model(copies_spec(every), kSeed);
    const auto count = count_parameters(model.spec());
    int64_t total = 0, copies = 0, one = 0;
    for (const auto& item : model.named_parameters()) {
      total += item.value().numel();
      if (item.key().find(".copies.experts.") != std::string::npos) copies += item.value().numel();
      if (item.key().find(".copies.experts.0.") != std::string::npos) one += item.value().numel();
    }
    EXPECT_EQ(count.total, total) << every;
    EXPECT_EQ(count.active, total - copies + one) << every;
    EXPECT_EQ(copies, kCopies * one);
    const auto plain = count_parameters(spec_of_copy(model.spec()));
    int64_t router = 0;
    for (const auto& part : count.parts) router += part.name == "router" ? part.active : 0;
    EXPECT_NEAR(count.flops_per_token, plain.flops_per_token + 2.0 * static_cast<double>(router) + (every == 2 ? 2.0 * 3 * 12 * (10 - 6) : 0), 1) << every;
  }
}

TEST(LayerCopies, AreSavedAndLoaded) {
  const testing::TempDir dir;
  const auto model = std::make_shared<LanguageModel>(copies_spec(), kSeed);
  save_checkpoint({model, nullptr, {}, {}}, dir / "model");
  const auto loaded = load_checkpoint(dir / "model");
  EXPECT_EQ(loaded.model->spec().moe->site, "layer");
  model->eval();
  loaded.model->eval();
  const auto batch = tagged(some_ids(2, 6), {2, 1});
  EXPECT_TRUE(torch::equal(logits(*loaded.model, batch), logits(*model, batch)));
}

TEST(LayerCopies, RefuseWhatMakesNoSenseForWholeLayers) {
  const auto refuses = [](std::initializer_list<std::string_view> words, const std::function<void(MoESpec&)>& change) {
    ModelSpec s = copies_spec();
    change(*s.moe);
    expect_error(ErrorKind::config, words, [&] { (void)s.resolved(); });
  };
  refuses({"model.moe.site = 'block'", "'ffn', 'layer'"}, [](MoESpec& m) { m.site = "block"; });
  refuses({"model.moe.num_shared_experts = 1", "whole layers"}, [](MoESpec& m) { m.num_shared_experts = 1; });
  refuses({"model.moe.routed_scale = 2", "whole layers"}, [](MoESpec& m) { m.routed_scale = 2; });
  refuses({"model.moe.capacity.factor = 1.25", "whole layers"}, [](MoESpec& m) { m.capacity.factor = 1.25; });
  refuses({"model.moe.dispatcher = 'expert_parallel'", "'local'"}, [](MoESpec& m) { m.dispatcher = "expert_parallel"; });
  LanguageModel model(copies_spec(), kSeed);
  expect_error(ErrorKind::unsupported, {"no part of its own"}, [&] { (void)experts_of_tag(*model.moe_layers()[0].second, 0); });
}

// Tasks 0 and 1 ask for the token after the one that is seen, tasks 2 and 3 for the one before: nothing but the task tells.
// One layer of two copies: tasks of a family must come to share a copy.
TEST(LayerCopies, TasksOfAFamilyShareTheirRouteAndFamiliesDoNot) {
  constexpr int64_t kVocab = 12, kSeq = 6;
  ModelSpec s = copies_spec();
  s.vocab_size = kVocab;
  s.num_layers = 1;
  s.d_ff = s.moe->d_expert = 24;
  s.moe->num_experts = 2;
  LanguageModel model(s, 2);
  model.train();
  torch::optim::Adam adam(model.parameters(), torch::optim::AdamOptions(1e-2));
  const int64_t steps = 150;
  double last = 0;
  for (int64_t step = 0; step < steps; ++step) {
    auto ids = torch::empty({8, kSeq}, torch::kInt64);
    const auto random = RandomStream(1).at("ids", static_cast<uint64_t>(step));
    for (int64_t i = 0; i < ids.numel(); ++i) ids.data_ptr<int64_t>()[i] = static_cast<int64_t>(random.below(static_cast<uint64_t>(i), kVocab));
    const auto batch = tagged(ids, {0, 1, 2, 3, 0, 1, 2, 3});
    const auto labels = (ids + at::where(batch.tags < 2, 1, kVocab - 1)) % kVocab;
    adam.zero_grad();
    const auto out = model.logits(model.forward(batch, {.step = step}).hidden).view({-1, kVocab});
    const auto loss = at::cross_entropy_loss(out, labels.view({-1}));
    loss.backward();
    adam.step();
    last = loss.item<double>();
  }
  EXPECT_LT(last, 0.7 * std::log(static_cast<double>(kVocab)));
  EXPECT_EQ(route_of(model, 0), route_of(model, 1));
  EXPECT_EQ(route_of(model, 2), route_of(model, 3));
  EXPECT_NE(route_of(model, 0), route_of(model, 2));
}

}  // namespace
}  // namespace switchyard::layer_copies_test
