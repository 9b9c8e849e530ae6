// Models of two stacks. Oracle: the values that Hugging Face transformers computes (tests/data/golden/README.md).
#include "base/config_tree.h"
#include "base/files.h"
#include "core/ops.h"
#include "io/safetensors_set.h"
#include "models/family.h"
#include "models/forward_dump.h"
#include "models/golden.h"
#include "models/with_spec.h"
#include "test_files.h"

#include <cmath>

namespace switchyard::encoder_decoder_golden_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::close_to;
using testing::Golden;
using testing::golden_folder;
using testing::TempDir;

class TwoStacks : public ::testing::TestWithParam<const char*> {
 protected:
  TwoStacks() : reference(GetParam()), model(load_checkpoint(golden_folder(GetParam())).model) { model->eval(); }

  [[nodiscard]] TokenBatch batch(const torch::Tensor& source, const torch::Tensor& text, const torch::Tensor& mask = {}) const {
    TokenBatch out{.input_ids = text, .positions = {}, .segments = {}};
    out.source_ids = source;
    if (mask.defined()) out.source_segments = mask.to(torch::kInt32) - 1;
    return out;
  }
  [[nodiscard]] TokenBatch whole_batch() const { return batch(reference["input_ids"], reference["decoder_input_ids"]); }

  // The reference stores weights of NLLB before the factor 1 - moe_token_dropout of evaluation.
  [[nodiscard]] double weight_scale() const { return std::string(GetParam()) == "nllb-moe" ? 0.8 : 1; }
  // A router logit that is off by its bound of 2e-5 moves a weight by up to p (1 - p) of it. The scores of Switch are not divided by
  // sqrt(c) and use more of that bound.
  [[nodiscard]] double weight_bound() const { return std::string(GetParam()) == "nllb-moe" ? 2e-6 : 5e-6; }

  torch::Tensor loss_ce(const torch::Tensor& hidden) {
    const auto labels = reference["labels"].reshape({-1});
    return ops::cross_entropy(model->logits(hidden).reshape({labels.size(0), -1}), labels).sum() / (labels != -100).sum();
  }

  void expect_gradients(const std::string& what) {
    const auto named = model->named_parameters();
    const auto& norms = reference.scalars()["grad_norms_" + what];
    const auto layouts = find_family(reference.scalars()["family"]).family->layouts(*model);
    for (const auto& place : layouts.front()) {
      auto g = named[place.parameter].grad();
      ASSERT_TRUE(g.defined()) << place.parameter;
      if (place.index >= 0) g = g.select(0, place.index);
      const double expected = norms.at(place.stored);
      EXPECT_NEAR(g.norm().item<double>(), expected, 1e-4 * expected + 1e-6) << place.stored;
      const auto name = "grad_" + what + "." + place.stored;
      if (!reference.has(name)) continue;
      EXPECT_TRUE(close_to(g, reference[name], 1e-4 * reference[name].abs().max().item<double>(), 0)) << name;
      ++routers;
    }
    EXPECT_EQ(routers, model->moe_layers().size() + model->encoder()->moe_layers().size());
    EXPECT_EQ(layouts.front().size(), norms.size());
  }

  Golden reference;
  std::shared_ptr<LanguageModel> model;
  size_t routers = 0;
};

TEST_P(TwoStacks, ForwardEqualsTheReferenceByName) {
  const auto dump = forward_dump_of_two(*model, reference["input_ids"], {}, reference["decoder_input_ids"]);
  size_t compared = 0;
  for (const auto& entry : reference.entries()) {
    const auto& name = entry.name;
    if (name != "logits" && !name.starts_with("encoder.") && !name.starts_with("decoder.")) continue;
    ASSERT_TRUE(dump.count(name)) << name;
    const auto expected = reference[name];
    ++compared;
    if (name.ends_with("topk_index")) {
      EXPECT_TRUE(std::get<0>(dump.at(name).sort(-1)).equal(std::get<0>(expected.sort(-1)))) << name;
    } else if (name.ends_with("topk_weight") || name.ends_with("combine")) {
      EXPECT_TRUE(close_to(dump.at(name) / weight_scale(), expected, weight_bound(), 0)) << name;
    } else {
      EXPECT_TRUE(close_to(dump.at(name), expected, 2e-5, 2e-5)) << name;
    }
  }
  const auto layers = static_cast<size_t>(model->spec().num_layers / 2 + model->encoder()->spec().num_layers);
  EXPECT_GE(compared, 1 + layers + 2 + 3 + 4 * (model->moe_layers().size() + model->encoder()->moe_layers().size()));
}

TEST_P(TwoStacks, PaddingOfTheSourceChangesNothing) {
  const auto mask = reference["padded.attention_mask"];
  const auto dump = forward_dump_of_two(*model, reference["padded.input_ids"], mask, reference["decoder_input_ids"]);
  EXPECT_TRUE(close_to(dump.at("logits"), reference["padded.logits"], 2e-5, 2e-5));
  const auto seen = (mask != 0).view({-1});
  for (const auto& entry : reference.entries()) {
    if (!entry.name.starts_with("padded.encoder.moe") && !entry.name.starts_with("padded.decoder.moe")) continue;
    auto found = dump.at(entry.name.substr(7)), expected = reference[entry.name];
    if (entry.name.ends_with("combine")) found = found / weight_scale();
    if (entry.name.starts_with("padded.encoder")) found = found.index({seen}), expected = expected.index({seen});
    EXPECT_TRUE(close_to(found, expected, 2e-5, 2e-5)) << entry.name;
  }
  // The same numbers without the padding: the second text by itself.
  const int64_t length = mask[1].sum().item<int64_t>();
  const auto alone = forward_dump_of_two(*model, reference["padded.input_ids"].slice(0, 1).slice(1, 0, length), {}, reference["decoder_input_ids"].slice(0, 1));
  EXPECT_TRUE(close_to(dump.at("logits").slice(0, 1), alone.at("logits"), 2e-5, 2e-5));
}

TEST_P(TwoStacks, LossAndItsGradientsEqualTheReference) {
  const auto loss = loss_ce(model->forward(whole_batch()).hidden);
  EXPECT_NEAR(loss.item<double>(), reference.scalars()["loss_ce"].get<double>(), 1e-5);
  loss.backward();
  expect_gradients("ce");
}

// L = E * mean over sequences of sum_e f_e P_e over the tokens of all layers of a stack (arXiv:2101.03961 section 2.2), by loops over the
// recorded logits.
double balance_by_loops(const Golden& reference, const std::string& stack, const std::vector<int64_t>& layers, int64_t sequences) {
  double sum = 0;
  for (int64_t b = 0; b < sequences; ++b) {
    std::vector<double> f, p;
    double tokens = 0;
    for (const int64_t layer : layers) {
      const auto probs = at::softmax(reference[fmt::format("{}.moe.{}.router_logits", stack, layer)].to(torch::kFloat64), -1);
      const int64_t length = probs.size(0) / sequences, experts = probs.size(1);
      f.resize(static_cast<size_t>(experts)), p.resize(static_cast<size_t>(experts));
      for (int64_t t = b * length; t < (b + 1) * length; ++t, ++tokens) {
        f[static_cast<size_t>(probs[t].argmax().item<int64_t>())] += 1;
        for (int64_t e = 0; e < experts; ++e) p[static_cast<size_t>(e)] += probs[t][e].item<double>();
      }
    }
    for (size_t e = 0; e < f.size(); ++e) sum += static_cast<double>(f.size()) * f[e] / tokens * p[e] / tokens;
  }
  return sum / static_cast<double>(sequences);
}

// The balance loss recorded for Switch was given a one-hot mask where it wants numbers of experts: zeros and ones, so that it says
// E (P_0 + P_1) whoever was chosen. It still tells whether the probabilities, and their gradients, are right.
torch::Tensor recorded_balance(const std::vector<RoutingStats>& stack) {
  std::vector<torch::Tensor> probs;
  for (const auto& s : stack) probs.push_back(s.scores.probs);
  const auto mean = at::cat(probs).mean(0);
  return static_cast<double>(mean.size(0)) * (mean[0] + mean[1]);
}

TEST(SwitchTransformers, LossesOfBothStacksEqualTheirFormulasAndTheReference) {
  const Golden reference("switch_transformers");
  const auto model = load_checkpoint(golden_folder("switch_transformers")).model;
  model->eval();
  TokenBatch batch{.input_ids = reference["decoder_input_ids"], .positions = {}, .segments = {}};
  batch.source_ids = reference["input_ids"];
  const auto out = model->forward(batch);
  const auto& scalars = reference.scalars();
  const auto aux = model->aux_loss(out);
  ASSERT_EQ(aux.values.size(), 4u);
  for (const auto& [name, raw, weighted] : aux.values) {
    const std::string stack = name.starts_with("encoder.") ? "encoder" : "decoder";
    EXPECT_NEAR(raw, name.ends_with("router_z") ? scalars.at(stack + "_z_loss").get<double>() : balance_by_loops(reference, stack, {1, 3}, 2), 1e-5) << name;
    EXPECT_NEAR(weighted, 0.001 * raw, 1e-8) << name;
  }
  EXPECT_NEAR(recorded_balance(out.stats).item<double>(), scalars.at("decoder_aux_loss").get<double>(), 1e-5);
  EXPECT_NEAR(recorded_balance(out.encoder->stats).item<double>(), scalars.at("encoder_aux_loss").get<double>(), 1e-5);
}

TEST_P(TwoStacks, LossesOfBothStacksAndTheirGradientsEqualTheReference) {
  const bool is_switch = std::string(GetParam()) == "switch_transformers";
  const auto out = model->forward(whole_batch());
  const auto& scalars = reference.scalars();
  auto total = loss_ce(out.hidden);
  if (is_switch) {
    const AuxLosses router_z({LossSpec("router_z", 0.5)});  // the mean of two layers
    for (const auto& stack : {out.stats, out.encoder->stats}) total = total + 0.001 * (router_z(stack).total + recorded_balance(stack));
  } else {
    const auto aux = model->aux_loss(out);
    ASSERT_EQ(aux.values.size(), 2u);
    for (const auto& [name, raw, weighted] : aux.values)
      EXPECT_NEAR(raw, scalars.at(name.starts_with("encoder.") ? "encoder_aux_loss" : "decoder_aux_loss").get<double>(), 1e-5) << name;
    total = total + aux.total;
  }
  EXPECT_NEAR(total.item<double>(), scalars.at("loss_total").get<double>(), 1e-5);
  total.backward();
  expect_gradients("total");
}

TEST_P(TwoStacks, GreedyTextEqualsTheReferenceWithAndWithoutCache) {
  const torch::NoGradGuard no_grad;
  const auto expected = reference["generated_ids"], expected_logits = reference["generated_logits"];
  for (const bool cached : {false, true}) {
    KvCache cache(model->spec(), 1, expected.size(1));
    ForwardOptions options;
    if (cached) options.cache = &cache;
    auto ids = expected.slice(1, 0, 1);
    for (int64_t i = 0; i < expected_logits.size(0); ++i) {
      auto input = batch(reference["prompt_ids"], cached ? ids.slice(1, cache.length) : ids);
      if (cached && i > 0) input.source_ids = torch::Tensor();  // the cache holds what is needed of it
      const auto logits = model->logits(model->forward(input, options).hidden.slice(1, -1)).view({-1});
      EXPECT_TRUE(close_to(logits, expected_logits[i], 2e-5, 2e-5)) << "step " << i << ", cached " << cached;
      ids = at::cat({ids, logits.argmax().view({1, 1})}, 1);
    }
    EXPECT_TRUE(ids.equal(expected)) << ids;
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, TwoStacks, ::testing::Values("switch_transformers", "nllb-moe"), [](const auto& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

TEST(SwitchTransformers, ATokenBeyondTheCapacityOfItsSequencePassesThrough) {
  const Golden reference("switch_transformers");
  const auto model = load_checkpoint(golden_folder("switch_transformers")).model;
  ModelSpec spec = model->spec();
  spec.moe->capacity.eval_rows = reference.scalars()["capacity"]["expert_capacity"];
  const auto tight = with_spec(*model, spec);
  const auto dump = forward_dump_of_two(*tight, reference["input_ids"], {}, reference["decoder_input_ids"]);
  EXPECT_TRUE(close_to(dump.at("logits"), reference["capacity.logits"], 2e-5, 2e-5));
}

// wi_0 is the half that goes through the activation, wi_1 the other one; the golden configuration with gated networks.
TEST(SwitchTransformers, GatedNetworksHaveTwoMatricesInFront) {
  const TempDir dir;
  auto config = nlohmann::ordered_json::parse(read_text_file(golden_folder("switch_transformers") / "config.json"));
  config["dense_act_fn"] = "gated-gelu";
  Checkpoint saved;
  saved.model = std::make_shared<LanguageModel>(find_family("switch_transformers").family->read_config(config_from_json(config, "config.json")), 3);
  save_checkpoint(saved, dir / "a", {.family = "switch_transformers"});
  const auto files = SafetensorsSet::open(dir / "a");
  const auto parameters = saved.model->named_parameters();
  const auto stored = [&](const std::string& name) {
    const TensorEntry& entry = files.at(name);
    auto out = torch::empty(entry.shape);
    to_float32(entry, out.data_ptr<float>());
    return out;
  };
  const int64_t f = config["d_ff"];
  const auto expert = parameters["encoder.layers.1.ffn.experts.w_in"][2], dense = parameters["layers.1.ffn.w_in"][0];
  EXPECT_TRUE(torch::equal(stored("encoder.block.1.layer.1.mlp.experts.expert_2.wi_0.weight"), expert.slice(0, 0, f)));
  EXPECT_TRUE(torch::equal(stored("encoder.block.1.layer.1.mlp.experts.expert_2.wi_1.weight"), expert.slice(0, f)));
  EXPECT_TRUE(torch::equal(stored("decoder.block.0.layer.2.mlp.wi_1.weight"), dense.slice(0, f)));
  EXPECT_EQ(files.find("decoder.block.0.layer.2.mlp.wi.weight"), nullptr);
  const auto again = load_checkpoint(dir / "a");
  for (const auto& item : again.model->named_parameters()) EXPECT_TRUE(torch::equal(item.value(), parameters[item.key()])) << item.key();
}

TEST(NllbMoe, TheLossOfTheEncoderCountsNoPadding) {
  const Golden reference("nllb-moe");
  const auto model = load_checkpoint(golden_folder("nllb-moe")).model;
  model->eval();
  TokenBatch batch{.input_ids = reference["decoder_input_ids"], .positions = {}, .segments = {}};
  batch.source_ids = reference["padded.input_ids"];
  batch.source_segments = reference["padded.attention_mask"].to(torch::kInt32) - 1;
  for (const auto& [name, raw, weighted] : model->aux_loss(model->forward(batch)).values)
    EXPECT_NEAR(raw, reference.scalars()[name.starts_with("encoder.") ? "padded_encoder_aux_loss" : "padded_decoder_aux_loss"].get<double>(), 1e-5) << name;
}

}  // namespace
}  // namespace switchyard::encoder_decoder_golden_test
