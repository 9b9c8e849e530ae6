// Training a part of a model: what is left out has no gradient, no optimiser state, and the same bytes at the end.
#include "expect_error.h"
#include "steps/trainer.h"
#include "tiny_run.h"

#include <gtest/gtest.h>

#include <set>

namespace switchyard::frozen_base_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::expect_error;

ModelSpec base_spec() {
  return {.vocab_size = 23, .d_model = 16, .num_layers = 2, .num_heads = 2, .d_ff = 12, .max_positions = 16, .moe = std::nullopt};
}

ModelSpec mixed_spec() {
  ModelSpec s = base_spec();
  MixtureSpec l;
  l.sites = {"attn.q", "attn.v", "ffn.up"};
  l.experts = {"lora", {{"rank", 2}}};
  MixtureSpec v;
  v.sites = {"attn.k", "ffn.inner"};
  v.experts = "scale";
  s.mixtures = {l, v};
  return s;
}

bool of_mixture(const std::string& name) { return name.find(".mixtures.") != std::string::npos; }

data::Batch some_batch(int64_t step) {
  data::Batch b;
  b.batch = 2;
  b.seq = 8;
  b.scored_tokens = 16;
  for (uint64_t i = 0; i < 16; ++i) {
    const auto draw = [&](uint64_t at) { return static_cast<int32_t>(RandomStream(4).at("step", static_cast<uint64_t>(step)).below(at, 23)); };
    b.input_ids.push_back(draw(2 * i));
    b.labels.push_back(draw(2 * i + 1));
    b.segments.push_back(0);
    b.positions.push_back(static_cast<int32_t>(i % 8));
    b.documents.push_back(0);
    b.tags.push_back(0);
  }
  return b;
}

TrainOptions options_of(std::vector<std::string> train_only, std::vector<std::string> freeze = {}) {
  TrainOptions t{.steps = 10, .batch_size = 2, .seq_len = 8, .compute = "float32"};
  t.optimizer.lr = 1e-2;
  t.optimizer.train_only = std::move(train_only);
  t.optimizer.freeze = std::move(freeze);
  t.schedule.warmup_steps = 0;
  return t;
}

std::map<std::string, torch::Tensor> weights_of(LanguageModel& model) {
  std::map<std::string, torch::Tensor> out;
  for (const auto& item : model.named_parameters()) out.emplace(item.key(), item.value().detach().clone());
  return out;
}

TEST(FrozenBase, KeepsItsBytesOverTenStepsWhileTheMixturesLearn) {
  for (const bool recompute : {false, true}) {
    const auto model = std::make_shared<LanguageModel>(mixed_spec(), 1);
    auto options = options_of({"mixtures"});
    options.activation_checkpointing = recompute;
    Trainer trainer(model, options, 1, [](int64_t step, int64_t) { return some_batch(step); });
    const auto before = weights_of(*model);
    for (int i = 0; i < 10; ++i) (void)trainer.step();
    for (const auto& item : model->named_parameters()) {
      EXPECT_EQ(torch::equal(item.value(), before.at(item.key())), !of_mixture(item.key())) << item.key() << recompute;
      EXPECT_EQ(item.value().requires_grad(), of_mixture(item.key())) << item.key();
    }
  }
}

TEST(FrozenBase, HasNeitherGradientNorOptimiserState) {
  const auto model = std::make_shared<LanguageModel>(mixed_spec(), 1);
  Trainer trainer(model, options_of({"mixtures"}), 1, [](int64_t step, int64_t) { return some_batch(step); });
  (void)trainer.step();
  const auto out = model->forward({torch::zeros({1, 4}, torch::kInt64), {}, {}});
  out.hidden.sum().backward();
  for (const auto& item : model->named_parameters())
    if (!of_mixture(item.key())) {
      EXPECT_FALSE(item.value().grad().defined()) << item.key();
    }
  Checkpoint saved;
  trainer.save(saved);
  for (const auto& [name, tensor] : saved.training_tensors) EXPECT_TRUE(of_mixture(name)) << name;
  EXPECT_EQ(saved.training_tensors.size(), 2 * trainer.parameters().size());
}

TEST(FrozenBase, ExpressionsAreFoundAnywhereInAName) {
  const auto trained = [](std::vector<std::string> only, std::vector<std::string> freeze) {
    LanguageModel model(mixed_spec(), 1);
    const auto options = options_of(std::move(only), std::move(freeze)).optimizer;
    freeze_parameters(model, options);
    std::set<std::string> out;
    for (const auto& p : trained_parameters(model, options)) out.insert(p.name);
    return out;
  };
  LanguageModel all(mixed_spec(), 1);
  EXPECT_EQ(trained({}, {}).size(), all.named_parameters().size());
  for (const auto& name : trained({"mixtures.*gate"}, {})) EXPECT_NE(name.find(".gate."), std::string::npos);
  for (const auto& name : trained({"mixtures", "^norm$"}, {"layers\\.1"})) EXPECT_TRUE(name == "norm" || name.rfind("layers.0.mixtures", 0) == 0) << name;
  EXPECT_EQ(trained({}, {"embed"}).size(), all.named_parameters().size() - 1);
}

TEST(FrozenBase, VectorsOfExpertsDoNotDecay) {
  LanguageModel model(mixed_spec(), 1);
  for (const auto& p : trained_parameters(model, {})) {
    if (p.name.ends_with(".scale") || p.name.ends_with("experts.a") || p.name.ends_with("gate.score.weight")) {
      EXPECT_EQ(p.decays, !p.name.ends_with(".scale")) << p.name;
    }
  }
}

TEST(FrozenBase, WrongExpressionsAreNamed) {
  LanguageModel model(mixed_spec(), 1);
  const auto refuse = [&](std::initializer_list<std::string_view> words, std::vector<std::string> only, std::vector<std::string> freeze = {}) {
    expect_error(ErrorKind::config, words, [&] { freeze_parameters(model, options_of(std::move(only), std::move(freeze)).optimizer); });
  };
  refuse({"train_only", "'mixture_'", "no parameter", "embed"}, {"mixture_"});
  refuse({"freeze", "'lora'", "no parameter"}, {}, {"lora"});
  refuse({"train_only", "'(a'", "no regular expression"}, {"(a"});
  refuse({"leave no parameter"}, {"embed"}, {"embed"});
}

TEST(FrozenBase, APlainModelGoesIntoOneWithMixturesAndComputesTheSame) {
  LanguageModel base(base_spec(), 1), mixed(mixed_spec(), 2);
  copy_weights(base, mixed, "base", /*new_mixtures=*/true);
  base.eval();
  mixed.eval();
  const TokenBatch batch{torch::arange(8, torch::kInt64).view({1, 8}), {}, {}};
  const auto a = base.forward(batch).hidden, b = mixed.forward(batch).hidden;
  EXPECT_LE((a - b).abs().max().item<double>(), 1e-5);  // the vectors' weights sum to 1 but for rounding
}

TEST(FrozenBase, AnythingElseThatIsMissingOrTooMuchIsAnError) {
  LanguageModel base(base_spec(), 1), mixed(mixed_spec(), 2);
  expect_error(ErrorKind::checkpoint, {"base", "no parameter", ".mixtures."}, [&] { copy_weights(base, mixed, "base"); });
  expect_error(ErrorKind::checkpoint, {"of its", "not in [model]", ".mixtures."}, [&] { copy_weights(mixed, base, "mixed", true); });
  ModelSpec deeper = mixed_spec();
  deeper.num_layers = 3;
  LanguageModel larger(deeper, 2);
  expect_error(ErrorKind::checkpoint, {"base", "no parameter layers.2.attn"}, [&] { copy_weights(base, larger, "base", true); });
}

// Stage by stage, as recipes/gates/mole-gate.toml says: a base, adapters into it by tag, a gate over the adapters.
TEST(FrozenBase, AdaptersTrainedByTagKeepTheirWeightsUnderAnotherGate) {
  ModelSpec by_tag = mixed_spec(), mole = mixed_spec();
  by_tag.mixtures.resize(1);
  by_tag.mixtures[0].gate = "by_tag";
  mole.mixtures.resize(1);
  mole.mixtures[0].gate = {"mole", {{"unit", "token"}}};
  const auto adapters = std::make_shared<LanguageModel>(by_tag, 1);
  Trainer trainer(adapters, options_of({"experts"}), 1, [](int64_t step, int64_t) { return some_batch(step); });
  (void)trainer.step();
  const auto gated = std::make_shared<LanguageModel>(mole, 2);
  copy_weights(*adapters, *gated, "adapters", true);
  const auto options = options_of({"mixtures.*gate"});
  Trainer second(gated, options, 1, [](int64_t step, int64_t) { return some_batch(step); });
  const auto before = weights_of(*gated);
  for (int i = 0; i < 3; ++i) (void)second.step();
  const auto trained = adapters->named_parameters();
  for (const auto& item : gated->named_parameters()) {
    const auto* weight = trained.find(item.key());
    EXPECT_EQ(torch::equal(item.value(), weight ? *weight : before.at(item.key())), weight != nullptr) << item.key();
  }
}

}  // namespace
}  // namespace switchyard::frozen_base_test
