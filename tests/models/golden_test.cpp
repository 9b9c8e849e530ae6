// Oracle: the values that Hugging Face transformers computes (tests/data/golden/README.md).
#include "core/ops.h"
#include "models/family.h"
#include "models/forward_dump.h"
#include "models/golden.h"

namespace switchyard::testing {
namespace {

struct GoldenCase {
  const char* folder;     // of the model
  const char* reference;  // of the expected values
};

void PrintTo(const GoldenCase& c, std::ostream* out) { *out << c.folder; }

class GoldenModels : public ::testing::TestWithParam<GoldenCase> {
 protected:
  GoldenModels() : reference(GetParam().reference), model(load_checkpoint(golden_folder(GetParam().folder)).model) {}

  // Mean cross-entropy of the kept labels (logits at t against the label at t + 1).
  torch::Tensor loss_ce(const torch::Tensor& hidden) {
    const auto labels = reference["labels"].slice(1, 1).reshape({-1});
    const auto logits = model->logits(hidden.slice(1, 0, -1)).reshape({labels.size(0), -1});
    return ops::cross_entropy(logits, labels).sum() / (labels != -100).sum();
  }

  // Gradient norms per tensor of the file, in the layout that the reference was recorded in.
  void expect_gradient_norms(const std::string& key) {
    const auto& entry = find_family(reference.scalars()["family"]);
    const auto gradients = [&] {
      std::map<std::string, torch::Tensor> out;
      for (const auto& item : model->named_parameters()) out.emplace(item.key(), item.value().grad());
      return out;
    }();
    const auto& norms = reference.scalars()[key];
    size_t checked = 0;
    const auto layouts = entry.family->layouts(*model);
    for (const auto& place : layouts.front()) {
      auto g = gradients.at(place.parameter);
      if (place.index >= 0) g = g.select(0, place.index);
      if (place.rows >= 0) g = g.narrow(0, place.row, place.rows);
      const double expected = norms.at(place.stored);
      EXPECT_NEAR(g.norm().item<double>(), expected, 1e-4 * expected + 1e-6) << place.stored;
      ++checked;
    }
    EXPECT_GE(checked, 30u);
  }

  void expect_router_gradients(const std::string& prefix) {
    for (const auto& [layer, moe] : model->moe_layers()) {
      const auto expected = reference[fmt::format("{}.model.layers.{}.block_sparse_moe.gate.weight", prefix, layer)];
      EXPECT_TRUE(close_to(moe->gate().parameters()[0].grad(), expected, 1e-4 * expected.abs().max().item<double>(), 0)) << "layer " << layer;
    }
  }

  Golden reference;
  std::shared_ptr<LanguageModel> model;
};

class GoldenMoEModels : public GoldenModels {};  // those with auxiliary losses

// Every tensor of the dump that the reference has, by name; topk rows as sets.
void expect_dump(const ForwardDump& dump, const Golden& reference) {
  for (const auto& [name, found] : dump) {
    if (name.ends_with("topk_index") || name.ends_with("topk_weight")) continue;
    ASSERT_TRUE(reference.has(name)) << name;
    const bool weights = name.ends_with("combine");
    EXPECT_TRUE(close_to(found, reference[name], weights ? 2e-6 : 2e-5, weights ? 0 : 2e-5)) << name;
  }
  for (const auto& [name, found] : dump) {
    if (!name.ends_with("topk_index")) continue;
    const auto expected = reference[name];
    EXPECT_TRUE(std::get<0>(found.sort(-1)).equal(std::get<0>(expected.sort(-1)))) << name;
  }
}

TEST_P(GoldenModels, ForwardEqualsTheReferenceByName) {
  const auto dump = forward_dump(*model, reference["input_ids"], {}, {});
  expect_dump(dump, reference);
  EXPECT_EQ(dump.size(), 1u + 4u + 1u + model->moe_layers().size() * 6u);
}

TEST_P(GoldenModels, PaddedForwardEqualsTheReferenceWhereTheMaskIsOne) {
  const auto mask = reference["padded.attention_mask"];
  const auto dump = forward_dump(*model, reference["padded.input_ids"], mask, reference["padded.position_ids"]);
  const auto seen = mask != 0;
  EXPECT_TRUE(close_to(dump.at("logits").index({seen}), reference["padded.logits"].index({seen}), 2e-5, 2e-5));
  for (const auto& [layer, moe] : model->moe_layers()) {
    const auto rows = seen.view({-1});
    for (const char* what : {"router_logits", "combine"}) {
      const auto name = fmt::format("moe.{}.{}", layer, what);
      EXPECT_TRUE(close_to(dump.at(name).index({rows}), reference["padded." + name].index({rows}), 2e-5, 2e-5)) << name;
    }
    EXPECT_EQ(dump.at(fmt::format("moe.{}.combine", layer)).index({~rows}).abs().sum().item<double>(), 0) << "padding is routed nowhere";
  }
}

TEST_P(GoldenModels, LossAndItsGradientsEqualTheReference) {
  const auto out = model->forward({.input_ids = reference["input_ids"], .positions = {}, .segments = {}});
  const auto loss = loss_ce(out.hidden);
  EXPECT_NEAR(loss.item<double>(), reference.scalars()["loss_ce"].get<double>(), 1e-5);
  loss.backward();
  expect_gradient_norms("grad_norms_ce");
  expect_router_gradients("grad_ce");
}

TEST_P(GoldenMoEModels, TotalLossAndItsGradientsEqualTheReference) {
  const auto out = model->forward({.input_ids = reference["input_ids"], .positions = {}, .segments = {}});
  const auto aux = model->aux_loss(out.stats);
  ASSERT_EQ(aux.values.size(), 1u);
  EXPECT_NEAR(aux.values[0].raw, reference.scalars()["aux_loss"].get<double>(), 1e-5);
  const auto total = loss_ce(out.hidden) + aux.total;
  EXPECT_NEAR(total.item<double>(), reference.scalars()["loss_total"].get<double>(), 1e-5);
  total.backward();
  expect_gradient_norms("grad_norms_total");
  expect_router_gradients("grad_total");
}

TEST_P(GoldenMoEModels, AuxiliaryLossCountsNoPadding) {
  const auto segments = reference["padded.attention_mask"].to(torch::kInt32) - 1;
  const auto out = model->forward({reference["padded.input_ids"], reference["padded.position_ids"], segments});
  EXPECT_NEAR(model->aux_loss(out.stats).values.at(0).raw, reference.scalars()["padded_aux_loss"].get<double>(), 1e-5);
}

TEST_P(GoldenModels, GreedyTextEqualsTheReferenceWithAndWithoutCache) {
  const torch::NoGradGuard no_grad;
  model->eval();
  const auto expected = reference["generated_ids"], expected_logits = reference["generated_logits"];
  const auto prompt = reference["prompt_ids"];
  for (const bool cached : {false, true}) {
    KvCache cache(model->spec(), 1, expected.size(1));
    ForwardOptions options;
    if (cached) options.cache = &cache;
    auto ids = prompt;
    for (int64_t i = 0; i < expected_logits.size(0); ++i) {
      const auto input = cached ? ids.slice(1, cache.length) : ids;
      const auto hidden = model->forward({.input_ids = input, .positions = {}, .segments = {}}, options).hidden;
      const auto logits = model->logits(hidden.slice(1, -1)).view({-1});
      EXPECT_TRUE(close_to(logits, expected_logits[i], 2e-5, 2e-5)) << "step " << i << ", cached " << cached;
      ids = at::cat({ids, logits.argmax().view({1, 1})}, 1);
    }
    EXPECT_TRUE(ids.equal(expected)) << ids;
  }
}

std::string folder_name(const ::testing::TestParamInfo<GoldenCase>& info) {
  std::string name = info.param.folder;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

const GoldenCase kSparse[] = {{"mixtral", "mixtral"}, {"mixtral-sharded", "mixtral-sharded"}, {"mixtral-fused", "mixtral"}};
const GoldenCase kDense[] = {{"llama", "llama"}};

INSTANTIATE_TEST_SUITE_P(Sparse, GoldenModels, ::testing::ValuesIn(kSparse), folder_name);
INSTANTIATE_TEST_SUITE_P(Dense, GoldenModels, ::testing::ValuesIn(kDense), folder_name);
INSTANTIATE_TEST_SUITE_P(Sparse, GoldenMoEModels, ::testing::ValuesIn(kSparse), folder_name);

}  // namespace
}  // namespace switchyard::testing
