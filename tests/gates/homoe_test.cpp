// HOMOE: the layer against loops over one sequence, what it keeps apart, and the promise of the paper on a toy.
#include "expect_error.h"
#include "support/gate_fixture.h"
#include "switchyard/moe.h"

#include <torch/nn/functional/loss.h>
#include <torch/optim/adam.h>

namespace switchyard::homoe_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::all_close;
using testing::expect_error;
using testing::finite_difference_gap;
using testing::normal;

constexpr int64_t kWidth = 6, kCompanions = 2;

MoEOptions options_of(ConfigNode::Table gate) {
  gate.emplace_back("memory", 5);
  MoEOptions o{.d_model = kWidth, .d_expert = 4, .num_experts = 3, .gate = {"homoe", gate}, .experts = "relu"};
  o.init_std = o.init_out_std = 0.5;
  o.seed = 3;
  return o;
}

GateInput sequences_of(const std::vector<int64_t>& ids) {
  GateInput in;
  in.sequence_ids = torch::tensor(ids, torch::kInt64);
  return in;
}

torch::Tensor unit(const torch::Tensor& x, double eps) { return x / (x.square().sum(-1, true) + eps).sqrt(); }

// Oracle: one sequence [m, d] from the definition, in float64, with the parameters of `layer`.
torch::Tensor by_definition(MoELayer& layer, const torch::Tensor& x32, double beta, int64_t updates, int64_t slots) {
  const auto p = [&](const char* name) {
    const auto named = layer.named_parameters();
    return named[name].detach().to(torch::kFloat64);
  };
  const auto x = x32.to(torch::kFloat64), memory = p("gate.memory"), query = p("gate.query").view({kCompanions, kWidth, kWidth});
  std::vector<torch::Tensor> set = {x};
  for (int64_t c = 0; c < kCompanions; ++c) {
    auto state = at::mv(query[c], x.mean(0));
    torch::Tensor association;
    for (int64_t i = 0; i < updates; ++i) {
      std::vector<torch::Tensor> cosines;
      for (int64_t m = 0; m < memory.size(0); ++m) cosines.push_back(at::dot(memory[m], state) / memory[m].norm() / state.norm());
      association = at::softmax(beta * at::stack(cosines), 0);
      state = at::mv(unit(memory, 0).t(), association);
    }
    set.push_back(at::mv(memory.t(), association).unsqueeze(0));
  }
  const auto all = at::cat(set);
  const auto z = at::matmul(unit(all, 1e-6), unit(p("gate.soft.phi"), 1e-6).t()) * p("gate.soft.scale");  // [m + companions, E p]
  const auto expert = testing::ffn_expert("relu", p("experts.w_in"), p("experts.w_out"));
  const auto rows = at::matmul(at::softmax(z, 0).t(), all);
  std::vector<torch::Tensor> out;
  for (int64_t s = 0; s < rows.size(0); ++s) out.push_back(expert(s / slots, rows[s]));
  return at::matmul(at::softmax(z.slice(0, 0, x.size(0)), 1), at::stack(out));
}

TEST(Homoe, EqualsTheDefinitionSequenceBySequence) {
  for (const int64_t updates : {1, 3}) {
    MoELayer layer(options_of({{"beta", 4.0}, {"updates", updates}, {"soft", {{"kind", "soft_moe"}, {"slots", 2}}}}));
    const auto x = normal({9, kWidth}, 1);
    const auto y = layer.forward(x, sequences_of({4, 4, 4, 4, 0, 0, 0, 7, 7}));
    for (const auto& [first, last] : {std::pair<int64_t, int64_t>{0, 4}, {4, 7}, {7, 9}})
      EXPECT_TRUE(all_close(y.slice(0, first, last), by_definition(layer, x.slice(0, first, last), 4, updates, 2), 1e-5)) << first << ", updates " << updates;
  }
}

TEST(Homoe, ColumnsOfTokensAndCompanionsTogetherSumToOne) {
  MoELayer layer(options_of({}));
  {
    torch::NoGradGuard no_grad;
    layer.gate().named_parameters()["memory"].fill_(1);  // every companion is a row of ones
  }
  const auto x = normal({6, kWidth}, 1);
  auto in = sequences_of({0, 0, 0, 1, 1, 1});
  in.hidden = x;
  const auto routing = layer.gate().route(in);
  const auto& slots = std::get<SoftSlots>(routing.choice);
  EXPECT_TRUE(all_close(slots.combine.sum(1), torch::ones({6}), 1e-6));
  const auto of_companions = slots.extra.select(2, 0);  // times 1: [sequences, slots]
  for (int64_t sequence = 0; sequence < 2; ++sequence)
    EXPECT_TRUE(all_close(slots.dispatch.slice(0, 3 * sequence, 3 * sequence + 3).sum(0) + of_companions[sequence], torch::ones({slots.dispatch.size(1)}), 1e-6));
  EXPECT_GT(of_companions.min().item<double>(), 0.05);
}

TEST(Homoe, SequencesNeverMixAndPaddingIsNotThere) {
  MoELayer layer(options_of({}));
  const auto x = normal({9, kWidth}, 1);
  auto in = sequences_of({0, 0, 0, 0, 1, 1, 1, 1, 1});
  const auto y = layer.forward(x, in);
  auto other = x.clone();
  other.slice(0, 4) *= -5;
  EXPECT_TRUE(all_close(layer.forward(other, in).slice(0, 0, 4), y.slice(0, 0, 4), 1e-6));
  EXPECT_FALSE(all_close(layer.forward(other, in).slice(0, 4), y.slice(0, 4), 1e-2));

  in.valid = torch::tensor({true, true, true, false, true, true, true, true, false});
  const auto kept = in.valid.nonzero().squeeze(1);
  auto compact = sequences_of({0, 0, 0, 1, 1, 1, 1});
  EXPECT_TRUE(all_close(layer.forward(x, in).index_select(0, kept), layer.forward(x.index_select(0, kept), compact), 1e-6));
  EXPECT_EQ(layer.forward(x, in)[3].abs().max().item<double>(), 0);
}

TEST(Homoe, GradientsMatchFiniteDifferences) {
  MoELayer layer(options_of({{"updates", 2}, {"beta", 3.0}}));
  layer.to(torch::kFloat64);
  auto x = normal({7, kWidth}, 1).to(torch::kFloat64).requires_grad_();
  const auto dy = normal({7, kWidth}, 2).to(torch::kFloat64);
  const auto in = sequences_of({0, 0, 0, 1, 1, 1, 1});
  const auto loss = [&] { return (layer.forward(x, in) * dy).sum(); };
  EXPECT_LT(finite_difference_gap(loss, x, 42), 1e-4);
  for (auto& item : layer.named_parameters()) EXPECT_LT(finite_difference_gap(loss, item.value(), 30), 1e-4) << item.key();
}

TEST(Homoe, AFrozenMemoryIsABufferThatIsSavedAndDoesNotLearn) {
  MoELayer frozen(options_of({{"learn_memory", false}})), learned(options_of({}));
  EXPECT_TRUE(frozen.gate().named_buffers().contains("memory"));
  EXPECT_FALSE(frozen.gate().named_parameters().contains("memory"));
  EXPECT_TRUE(learned.gate().named_parameters().contains("memory"));
  EXPECT_EQ(learned.gate().num_parameters() - frozen.gate().num_parameters(), 5 * kWidth);
  const auto x = normal({5, kWidth}, 1);
  const auto in = sequences_of({0, 0, 0, 0, 0});
  EXPECT_TRUE(torch::equal(frozen.forward(x, in), learned.forward(x, in)));
}

TEST(Homoe, RefusesWhatMakesNoSense) {
  expect_error(ErrorKind::config, {"companions = 0", "layers.0", "at least 1"}, [] { MoELayer layer(options_of({{"companions", 0}})); });
  expect_error(ErrorKind::config, {"updates = 0", "at least 1"}, [] { MoELayer layer(options_of({{"updates", 0}})); });
  expect_error(ErrorKind::config, {"beta = 0", "more than 0"}, [] { MoELayer layer(options_of({{"beta", 0.0}})); });
  MoELayer sparse(options_of({{"soft", {{"kind", "top_k"}}}}));
  expect_error(ErrorKind::config, {"soft = 'top_k'", "makes no slots"}, [&] { (void)sparse.forward(normal({2, kWidth}, 1), sequences_of({0, 0})); });
  MoELayer layer(options_of({}));
  expect_error(ErrorKind::usage, {"homoe", "sequence_ids"}, [&] { (void)layer.forward(normal({2, kWidth}, 1), {}); });
  auto causal = options_of({});
  causal.causal = true;
  expect_error(ErrorKind::config, {"homoe", "leaks the future"}, [&] { MoELayer refused(causal); });
}

// --- the promise: pairs that were never seen ------------------------------------------------------------------------------

// A grid of shapes x colours. An image is a few tokens, each a mixture of both with noise of its own.
struct Grid {
  static constexpr int64_t kSide = 6, kTokens = 5, kFeatures = 16;
  torch::Tensor shapes = normal({kSide, kFeatures}, 21), colours = normal({kSide, kFeatures}, 22);

  static bool is_seen(int64_t pair) { return (pair / kSide + pair % kSide) % 3 != 0; }
  static torch::Tensor pairs(bool seen) {
    std::vector<int64_t> out;
    for (int64_t p = 0; p < kSide * kSide; ++p)
      if (is_seen(p) == seen) out.push_back(p);
    return torch::tensor(out, torch::kInt64);
  }
  // [images * kTokens, kFeatures]
  [[nodiscard]] torch::Tensor images(const torch::Tensor& pair, uint64_t seed) const {
    const auto clean = shapes.index_select(0, at::floor_divide(pair, kSide)) + colours.index_select(0, pair % kSide);
    return clean.repeat_interleave(kTokens, 0) + 1.5 * normal({pair.size(0) * kTokens, kFeatures}, seed);
  }
};

torch::Tensor mean_per_image(const torch::Tensor& tokens) { return tokens.view({-1, Grid::kTokens, Grid::kFeatures}).mean(1); }

// Share of the images of unseen pairs that get their pair among all 36, after training on the others.
double accuracy_on_unseen(const Grid& grid, const std::vector<torch::Tensor>& parameters, const std::function<torch::Tensor(const torch::Tensor&)>& logits) {
  torch::optim::Adam adam(parameters, torch::optim::AdamOptions(1e-2));
  const auto seen = Grid::pairs(true), unseen = Grid::pairs(false).repeat({10});
  for (uint64_t step = 0; step < 150; ++step) {
    adam.zero_grad();
    torch::nn::functional::cross_entropy(logits(grid.images(seen, 1000 + step)), seen).backward();
    adam.step();
  }
  torch::NoGradGuard no_grad;
  return (logits(grid.images(unseen, 5)).argmax(1) == unseen).to(torch::kFloat32).mean().item<double>();
}

// As in the paper the label of a pair is made of its two parts; the dense head has a row for each pair.
TEST(Homoe, RecognisesUnseenPairsWhereADenseHeadDoesNot) {
  const Grid grid;
  auto head = (normal({36, Grid::kFeatures}, 1) * 0.1).requires_grad_();
  const double dense = accuracy_on_unseen(grid, {head}, [&](const torch::Tensor& x) { return at::matmul(mean_per_image(x), head.t()); });

  MoEOptions o{.d_model = Grid::kFeatures, .d_expert = 32, .num_experts = 4, .experts = "gelu"};
  o.gate = {"homoe", {{"memory", 12}, {"companions", 2}}};
  o.init_std = o.init_out_std = 0.2;
  MoELayer layer(o);
  auto shapes = (normal({6, Grid::kFeatures}, 2) * 0.1).requires_grad_(), colours = (normal({6, Grid::kFeatures}, 3) * 0.1).requires_grad_();
  auto parameters = layer.parameters();
  parameters.insert(parameters.end(), {shapes, colours});
  const double homoe = accuracy_on_unseen(grid, parameters, [&](const torch::Tensor& x) {
    GateInput in;
    in.sequence_ids = torch::arange(x.size(0) / Grid::kTokens, torch::kInt64).repeat_interleave(Grid::kTokens);
    const auto labels = (shapes.unsqueeze(1) + colours.unsqueeze(0)).view({36, Grid::kFeatures});
    return at::matmul(mean_per_image(x + layer.forward(x, in)), labels.t());
  });
  EXPECT_LT(dense, 0.3);
  EXPECT_GT(homoe, 0.6);
  RecordProperty("dense", std::to_string(dense));
  RecordProperty("homoe", std::to_string(homoe));
}

}  // namespace
}  // namespace switchyard::homoe_test
