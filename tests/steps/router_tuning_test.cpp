// Routers led by a surrogate of the loss: closed forms, an enumerated optimum, a toy of two nested layers, and whole runs.
#include "steps/router_tuning.h"

#include "data/tokenize_corpus.h"
#include "expect_error.h"
#include "experts/nested.h"
#include "io/tokenizer/tokenizer.h"
#include "steps/trainer.h"
#include "support/gate_fixture.h"
#include "tiny_run.h"

#include <c10/core/GradMode.h>

#include <cmath>

namespace switchyard::router_tuning_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::expect_error;
using testing::normal;
using testing::Recorder;

constexpr int64_t kChoices = 4;

std::shared_ptr<Gate> router(const char* score, int64_t d_model, int64_t layer) {
  return gate_registry().make({"chain", {{"score", score}, {"noise", {{"kind", "gumbel"}, {"unit", "sequence"}}},
                                         {"normalise", {{"kind", "annealed_softmax"}, {"from", 0.5}, {"to", 0.5}}},
                                         {"select", {{"kind", "top_k"}, {"k", 1}}}, {"weigh", "straight_through"}}},
                              GateShape{d_model, kChoices, layer, 1});
}

// One sequence per token: the loss of a token is that of its routes.
GateInput units(int64_t n, int64_t step, int64_t layer, int64_t d_model = 2) {
  GateInput in;
  in.hidden = normal({n, d_model}, static_cast<uint64_t>(1000 + step));
  in.sequence_ids = torch::arange(n, torch::kInt64);
  in.training = true;
  in.random = RandomStream(7).at("step", static_cast<uint64_t>(step)).at("layer", static_cast<uint64_t>(layer));
  return in;
}

std::vector<torch::Tensor> copies_of(const std::vector<torch::Tensor>& parameters) {
  std::vector<torch::Tensor> out;
  for (const auto& p : parameters) out.push_back(p.detach().clone());
  return out;
}

bool all_equal(const std::vector<torch::Tensor>& a, const std::vector<torch::Tensor>& b) {
  for (size_t i = 0; i < a.size(); ++i)
    if (!torch::equal(a[i], b[i])) return false;
  return a.size() == b.size();
}

// Three routers of four widths whose loss is a sum of what each choice costs.
struct Synthetic {
  Synthetic() : loss_of(torch::tensor({{.90, .50, .30, .25}, {.40, .30, .25, .23}, {1.2, .40, .35, .33}}, torch::kFloat64).to(torch::kFloat32)) {
    std::vector<TunedRouter> routers;
    for (int64_t l = 0; l < 3; ++l) {
      gates.push_back(router("static", 2, l));
      routers.push_back({"layers." + std::to_string(l) + ".ffn", gates.back().get(), {1, 2, 3, 4}});
    }
    options.target = 6.0 / 12;
    options.lambda = 4;
    options.threshold = 0.01;
    options.lr = 0.05;
    tuning = std::make_unique<RouterTuning>(routers, options, 1);
  }

  RoutedPass pass(int64_t step) {
    RoutedPass out;
    auto loss = torch::full({64}, 3.0);
    for (int64_t l = 0; l < 3; ++l) {
      out.inputs.push_back(units(64, step, l));
      const auto routing = gates[static_cast<size_t>(l)]->route(out.inputs.back());
      out.stats.push_back(routing_stats(routing, {}, out.inputs.back(), l, kChoices));
      loss = loss + loss_of[l].index_select(0, std::get<TokenChoice>(routing.choice).expert_ids.select(1, 0));
    }
    for (auto& stats : out.stats) stats.token_loss = loss;
    return out;
  }

  torch::Tensor loss_of;  // [3, 4]
  std::vector<std::shared_ptr<Gate>> gates;
  RouterTuningOptions options;
  std::unique_ptr<RouterTuning> tuning;
};

double r_squared(const Synthetic& s, const RoutedPass& pass) {
  torch::Tensor loss;
  const auto routes = RouterTuning::routes(pass.stats, &loss);
  const double error = (s.tuning->predict(routes) - loss).square().mean().item<double>();
  return 1 - error / (loss - loss.mean()).square().mean().item<double>();
}

TEST(RouterTuning, TheSurrogateLearnsALossThatIsLinearInTheChoices) {
  Synthetic s;
  for (int64_t step = 0; step < 400; ++step) s.tuning->learn(std::vector<RoutedPass>{s.pass(step)});
  EXPECT_GT(r_squared(s, s.pass(5000)), 0.95);
  EXPECT_TRUE(s.tuning->ready()) << s.tuning->error();
}

// All 64 combinations: the loss and the latency of each are known.
TEST(RouterTuning, RoutersFindTheBestCombinationUnderTheLatencyTarget) {
  Synthetic s;
  std::vector<int64_t> best;
  double least = 1e9;
  for (int64_t a = 0; a < 4; ++a)
    for (int64_t b = 0; b < 4; ++b)
      for (int64_t c = 0; c < 4; ++c) {
        const double latency = static_cast<double>(a + b + c + 3) / 12;
        const double value = (s.loss_of[0][a] + s.loss_of[1][b] + s.loss_of[2][c]).item<double>() + s.options.lambda * std::abs(latency - s.options.target);
        if (value < least) least = value, best = {a, b, c};
      }
  ASSERT_EQ(best, (std::vector<int64_t>{2, 0, 1}));
  for (int64_t step = 0; step < 900; ++step) {
    const std::vector<RoutedPass> passes = {s.pass(step)};
    s.tuning->learn(passes);
    if (s.tuning->ready()) s.tuning->tune(passes);
  }
  for (int64_t l = 0; l < 3; ++l)
    EXPECT_EQ(s.gates[static_cast<size_t>(l)]->named_parameters()["score.logits"].argmax().item<int64_t>(), best[static_cast<size_t>(l)]) << "layer " << l;
  EXPECT_NEAR(s.tuning->latency(s.pass(0).stats).item<double>(), s.options.target, 0.05 * s.options.target);
}

TEST(RouterTuning, LearningMovesTheSurrogateAloneAndTuningTheRoutersAlone) {
  Synthetic s;
  const auto routers = [&] {
    std::vector<torch::Tensor> out;
    for (const auto& gate : s.gates) for (const auto& p : gate->parameters()) out.push_back(p);
    return out;
  };
  const auto surrogate = [&] {
    auto out = s.tuning->surrogate().parameters();
    for (const auto& b : s.tuning->surrogate().buffers()) out.push_back(b);
    return out;
  };
  const std::vector<RoutedPass> passes = {s.pass(0), s.pass(1)};
  for (int i = 0; i < 3; ++i) {
    const auto routers_before = copies_of(routers()), surrogate_before = copies_of(surrogate());
    s.tuning->learn(passes);
    EXPECT_TRUE(all_equal(routers(), routers_before));
    EXPECT_FALSE(all_equal(surrogate(), surrogate_before));
    const auto learnt = copies_of(surrogate());
    s.tuning->tune(passes);
    EXPECT_TRUE(all_equal(surrogate(), learnt));
    EXPECT_FALSE(all_equal(routers(), routers_before));
    for (const auto& p : s.tuning->surrogate().parameters()) EXPECT_FALSE(p.grad().defined());
  }
}

// Oracle: the sum by hand.
TEST(RouterTuning, ExpectedLatencyIsTheMeanCostOfTheChoicesAsAShareOfTheFullOne) {
  Synthetic s;
  {
    const c10::NoGradGuard no_grad;
    s.gates[0]->named_parameters()["score.logits"].copy_(torch::tensor({.1, .2, .3, .4}).log());
    s.gates[1]->named_parameters()["score.logits"].copy_(torch::tensor({0., 0., 0., 50.}));
  }
  const auto pass = s.pass(0);
  const double want = ((.1 * 1 + .2 * 2 + .3 * 3 + .4 * 4) + 4 + 2.5) / 12;
  const auto latency = s.tuning->latency(pass.stats);
  EXPECT_NEAR(latency.item<double>(), want, 1e-5);
  EXPECT_NEAR(s.tuning->latency_loss(latency).item<double>(), 4 * (want - 0.5), 1e-4);
}

TEST(RouterTuning, RoutesAreMeansOverTheTokensOfASequenceAndUnscoredTokensHaveNoLoss) {
  RoutingStats stats;
  stats.scores.probs = torch::tensor({{1.f, 0.f}, {0.f, 1.f}, {.5f, .5f}, {.25f, .75f}});
  stats.sequence_ids = torch::tensor({4, 4, 9, 12}, torch::kInt64);
  stats.expert_ids = torch::tensor({0, 1, 0, 1}, torch::kInt64).view({4, 1});
  stats.token_loss = torch::tensor({2.f, std::nanf(""), std::nanf(""), 3.f});
  torch::Tensor losses;
  const auto routes = RouterTuning::routes({&stats, 1}, &losses);
  EXPECT_TRUE(torch::equal(routes, torch::tensor({{.5f, .5f}, {0.f, 1.f}})));
  EXPECT_TRUE(torch::equal(losses, torch::tensor({2.f, 3.f})));
}

TEST(RouterTuning, NeedsRoutersThatItCanMove) {
  expect_error(ErrorKind::config, {"router_tuning", "no layer with experts"}, [] { RouterTuning({}, {}, 1); });
  const auto fixed = gate_registry().make({"by_tag"}, GateShape{2, kChoices, 0, 1});
  expect_error(ErrorKind::config, {"router_tuning", "no parameters"}, [&] { RouterTuning({{"layers.0.ffn", fixed.get(), {1, 2, 3, 4}}}, {}, 1); });
  Synthetic s;
  auto pass = s.pass(0);
  pass.stats[1].scores.probs = torch::Tensor();
  expect_error(ErrorKind::config, {"router_tuning", "layer 1", "no probabilities"}, [&] { s.tuning->learn({&pass, 1}); });
  pass = s.pass(0);
  pass.stats[0].token_loss = torch::zeros({64}).index_fill_(0, torch::zeros({1}, torch::kInt64), 1e30);
  expect_error(ErrorKind::numeric, {"surrogate", "surrogate_lr"}, [&] { s.tuning->learn({&pass, 1}); });
}

// Two layers of nested experts that stand still. The first one is most of the teacher, the second adds a little: for the latency of
// a uniform choice, (1/4 + 2/4 + 3/4 + 1) / 4 of the full one, the whole first layer and a quarter of the second one are best.
struct NestedToy {
  NestedToy() {
    std::vector<TunedRouter> routers;
    for (int64_t l = 0; l < 2; ++l) {
      banks.push_back(std::make_shared<NestedBank>(NestedBank::Options{}, BankShape{.d_model = 8, .d_expert = 32, .num_experts = kChoices, .layer = l,
                                                                                     .init_std = 0.3, .init_out_std = l == 0 ? 0.3 : 0.08, .seed = 5}));
      gates.push_back(router("mlp", 8, l));
      TunedRouter one{"layers." + std::to_string(l) + ".ffn", gates.back().get(), {}};
      for (int64_t e = 0; e < kChoices; ++e) one.cost.push_back(banks.back()->flops_of(e));
      routers.push_back(one);
    }
    options.target = 0.625;
    options.lambda = 10;
    options.threshold = 0.2;
    options.lr = 0.02;
    tuning = std::make_unique<RouterTuning>(routers, options, 3);
  }

  // Of each token alone, as chosen [n].
  torch::Tensor run(size_t layer, const torch::Tensor& x, const torch::Tensor& choice) {
    const auto order = std::get<1>(at::sort(choice, /*stable=*/true, 0, false));
    const auto offsets = at::cat({torch::zeros({1}, torch::kInt64), at::bincount(choice, {}, kChoices).cumsum(0)});
    const auto y = banks[layer]->forward(x.index_select(0, order), offsets, {});
    return x + torch::zeros_like(y).index_copy(0, order, y);
  }

  // Error per token against both layers in full, as a share of what both add, for choices made by `pick`.
  template <class Pick> torch::Tensor losses(const torch::Tensor& x, const Pick& pick) {
    const c10::NoGradGuard no_grad;
    const auto full = torch::full({x.size(0)}, kChoices - 1, torch::kInt64);
    const auto want = run(1, run(0, x, full), full);
    const auto first = run(0, x, pick(0, x));
    return (run(1, first, pick(1, first)) - want).square().sum(1) / (want - x).square().sum(1);
  }

  RoutedPass pass(int64_t step) {
    RoutedPass out;
    const auto loss = losses(units(64, step, 0, 8).hidden, [&](int64_t l, const torch::Tensor& x) {
      auto in = units(64, step, l, 8);
      in.hidden = x;
      const auto routing = gates[static_cast<size_t>(l)]->route(in);
      out.inputs.push_back(in);
      out.stats.push_back(routing_stats(routing, {}, in, l, kChoices));
      return std::get<TokenChoice>(routing.choice).expert_ids.select(1, 0).contiguous();
    });
    for (auto& stats : out.stats) stats.token_loss = loss;
    return out;
  }

  std::vector<std::shared_ptr<NestedBank>> banks;
  std::vector<std::shared_ptr<Gate>> gates;
  RouterTuningOptions options;
  std::unique_ptr<RouterTuning> tuning;
};

TEST(RouterTuning, MeetsTheLatencyWithinFivePercentAndBeatsARandomChoiceOfEqualLatency) {
  NestedToy toy;
  for (int64_t step = 0; step < 500; ++step) {
    const std::vector<RoutedPass> passes = {toy.pass(step)};
    toy.tuning->learn(passes);
    if (toy.tuning->ready()) toy.tuning->tune(passes);
  }
  double latency = 0, loss = 0, random_loss = 0;
  for (int64_t step = 10'000; step < 10'010; ++step) {  // inputs that were not seen
    const auto pass = toy.pass(step);
    latency += toy.tuning->latency(pass.stats).item<double>() / 10;
    loss += pass.stats[0].token_loss.mean().item<double>() / 10;
    random_loss += toy.losses(pass.inputs[0].hidden, [&](int64_t l, const torch::Tensor& x) {
      auto ids = torch::empty({x.size(0)}, torch::kInt64);
      const auto random = RandomStream(99).at("step", static_cast<uint64_t>(step)).at("layer", static_cast<uint64_t>(l));
      for (int64_t t = 0; t < x.size(0); ++t) ids.data_ptr<int64_t>()[t] = static_cast<int64_t>(random.below(static_cast<uint64_t>(t), kChoices));
      return ids;
    }).mean().item<double>() / 10;
  }
  EXPECT_NEAR(latency, 0.625, 0.05 * 0.625);
  EXPECT_LT(loss, 0.7 * random_loss);
}

// Whole runs ------------------------------------------------------------------------------------------------------------

Recipe nested_recipe(const std::filesystem::path& text) {
  Recipe recipe = testing::tiny_recipe(text);
  recipe.model.moe->losses.clear();
  recipe.model.moe->d_expert = 32;
  recipe.model.moe->experts = "nested";
  recipe.model.moe->gate = {"chain", {{"score", {{"kind", "mlp"}, {"hidden", 8}}}, {"noise", {{"kind", "gumbel"}, {"unit", "sequence"}}},
                                      {"normalise", {{"kind", "annealed_softmax"}, {"from", 1.0}, {"to", 0.5}, {"steps", 10}}},
                                      {"select", {{"kind", "top_k"}, {"k", 1}}}, {"weigh", "straight_through"}}};
  auto& tuning = recipe.train.router_tuning.emplace();
  tuning.steps = 8;
  tuning.threshold = 100;
  return recipe;
}

// A trainer on tiny text without a run folder.
struct TinyTrainer {
  TinyTrainer(const Recipe& recipe, const testing::TempDir& dir) {
    const std::vector<data::Document> documents = {{.name = "tiny", .domain = "", .text = testing::tiny_text(300), .scored = {}}};
    tokens = std::make_unique<data::TokenFile>(data::open_token_file(dir / "tokens.bin", documents, *make_byte_tokenizer(), recipe.data.split));
    const TrainOptions& t = recipe.train;
    model = std::make_shared<LanguageModel>(resolved_model(recipe), 3);
    batches = std::make_unique<data::TrainBatches>(
        tokens->train(), data::TrainBatchOptions{.seq_len = t.seq_len, .batch_size = t.micro_batch_size(), .micro_batches = t.micro_batches(), .seed = 3});
    trainer = std::make_unique<Trainer>(model, t, 3, [this](int64_t step, int64_t micro) { return batches->batch(step, micro); });
  }
  std::vector<torch::Tensor> parameters(bool routers) {
    std::vector<torch::Tensor> out;
    for (const auto& item : model->named_parameters())
      if (is_router(item.key()) == routers) out.push_back(item.value());
    return out;
  }
  std::unique_ptr<data::TokenFile> tokens;
  std::shared_ptr<LanguageModel> model;
  std::unique_ptr<data::TrainBatches> batches;
  std::unique_ptr<Trainer> trainer;
};

// The same step with and without its router part.
TEST(RouterTuning, ARouterStepLeavesTheLanguageModelAsItIsBitForBit) {
  for (const bool checkpointing : {false, true}) {
    const testing::TempDir dir;
    Recipe recipe = nested_recipe("unused");
    recipe.train.activation_checkpointing = checkpointing;
    TinyTrainer tuned(recipe, dir);
    recipe.train.router_tuning->threshold = 0;
    TinyTrainer untouched(recipe, dir);
    const auto routers_before = copies_of(untouched.parameters(true)), model_before = copies_of(untouched.parameters(false));
    (void)tuned.trainer->step();
    (void)untouched.trainer->step();
    EXPECT_TRUE(all_equal(tuned.parameters(false), untouched.parameters(false)));
    EXPECT_FALSE(all_equal(untouched.parameters(false), model_before));
    EXPECT_TRUE(all_equal(untouched.parameters(true), routers_before));  // the loss of the model does not reach them
    EXPECT_FALSE(all_equal(tuned.parameters(true), routers_before));
  }
}

TEST(RouterTuning, RoutersLearnWithTheModelOnceTheSurrogateIsGone) {
  const testing::TempDir dir;
  Recipe recipe = nested_recipe("unused");
  recipe.train.router_tuning->steps = 1;
  recipe.train.router_tuning->threshold = 0;
  TinyTrainer tiny(recipe, dir);
  const auto first = tiny.trainer->step();
  ASSERT_EQ(first.aux.size(), 2u);
  EXPECT_EQ(first.aux[0].name, "surrogate_error");
  EXPECT_EQ(first.aux[1].name, "latency");
  const auto before = copies_of(tiny.parameters(true));
  const auto second = tiny.trainer->step();
  ASSERT_EQ(second.aux.size(), 1u);
  EXPECT_EQ(second.aux[0].name, "latency");
  EXPECT_NEAR(second.aux[0].weighted, 10 * std::abs(second.aux[0].raw - 0.5), 1e-5);
  EXPECT_FALSE(all_equal(tiny.parameters(true), before));
  Checkpoint checkpoint;
  tiny.trainer->save(checkpoint);
  for (const auto& item : checkpoint.training_tensors) EXPECT_NE(item.first.rfind("router_tuning", 0), 0u) << item.first;
}

TEST(RouterTuning, AResumedRunEqualsAnUninterruptedOneBitForBit) {
  const testing::TempDir dir;
  testing::write_text(dir / "text.txt", testing::tiny_text(300));
  const Recipe recipe = nested_recipe(dir / "text.txt");
  Recorder recorder;
  const TrainResult whole = train(recipe, {.folder = dir / "whole"}, recorder);
  for (const int64_t stop : {3, 8, 10}) {  // with the surrogate, where it goes, and after it
    const auto folder = dir / ("stop" + std::to_string(stop));
    Recorder part;
    TrainRun run{.folder = folder, .resume = true};
    run.stop = [&] { return static_cast<int64_t>(part.steps.size()) >= stop; };
    EXPECT_EQ(train(recipe, run, part).status, TrainStatus::interrupted);
    run.stop = {};
    const TrainResult resumed = train(recipe, run, part);
    EXPECT_EQ(testing::timeless_lines(dir / "whole/metrics.jsonl", "train"), testing::timeless_lines(folder / "metrics.jsonl", "train")) << stop;
    const auto want = whole.model->named_parameters(), got = resumed.model->named_parameters();
    for (const auto& item : want) EXPECT_TRUE(torch::equal(item.value(), got[item.key()])) << stop << " " << item.key();
  }
}

TEST(RouterTuning, ARecipeIsRefusedForValuesThatMakeNoSense) {
  const auto refuses = [](std::initializer_list<std::string_view> words, const std::function<void(Recipe&)>& change) {
    Recipe recipe = nested_recipe("unused");
    change(recipe);
    expect_error(ErrorKind::config, words, [&] { check_recipe(recipe); });
  };
  refuses({"train.router_tuning.target = 1.5", "0 to 1"}, [](Recipe& r) { r.train.router_tuning->target = 1.5; });
  refuses({"train.router_tuning.latency = 3 numbers", "num_experts = 4"}, [](Recipe& r) { r.train.router_tuning->latency = {1, 2, 3}; });
  refuses({"train.router_tuning.latency = 0", "above 0"}, [](Recipe& r) { r.train.router_tuning->latency = {0, 2, 3, 4}; });
  refuses({"train.router_tuning", "no experts"}, [](Recipe& r) { r.model.moe.reset(); });
  refuses({"router_lr_scale = 0", "moves the routers"}, [](Recipe& r) { r.train.optimizer.router_lr_scale = 0; });
  refuses({"router_lr_scale = -1", "at least 0"}, [](Recipe& r) { r.train.optimizer.router_lr_scale = -1; });
}

// Routes that are frozen, or learn at a pace of their own ----------------------------------------------------------------

TEST(RouterRate, ZeroFreezesTheRoutersAndNothingElse) {
  const testing::TempDir dir;
  Recipe recipe = testing::tiny_recipe("unused");
  recipe.model.moe->gate = {"chain", {{"balance", "bias"}, {"select", {{"kind", "top_k"}, {"k", 2}}}}};  // a gate with state
  recipe.train.optimizer.router_lr_scale = 0;
  TinyTrainer tiny(recipe, dir);
  const auto routers = copies_of(tiny.parameters(true)), rest = copies_of(tiny.parameters(false)), buffers = copies_of(tiny.model->buffers());
  for (int i = 0; i < 3; ++i) (void)tiny.trainer->step();
  EXPECT_TRUE(all_equal(tiny.parameters(true), routers));
  EXPECT_TRUE(all_equal(tiny.model->buffers(), buffers));
  EXPECT_FALSE(all_equal(tiny.parameters(false), rest));
}

// Oracle: the first step of AdamW moves every weight by its learning rate, whatever the size of its gradient.
TEST(RouterRate, ScalesTheStepOfTheRouters) {
  const testing::TempDir dir;
  const auto moved = [&](double scale) {
    Recipe recipe = testing::tiny_recipe("unused");
    recipe.train.optimizer.router_lr_scale = scale;
    recipe.train.optimizer.weight_decay = 0;
    TinyTrainer tiny(recipe, dir);
    const auto before = copies_of(tiny.parameters(true));
    (void)tiny.trainer->step();
    return (tiny.parameters(true)[0] - before[0]).abs().max().item<double>();
  };
  EXPECT_NEAR(moved(0.25), 0.25 * moved(1), 1e-3 * moved(1));
}

}  // namespace
}  // namespace switchyard::router_tuning_test
