// Merged experts in a decoder with a cache: made once from the prompt, kept for all that follows.
#include "models/small_specs.h"
#include "support/gate_fixture.h"
#include "switchyard/language_model.h"

namespace switchyard::merged_generation_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::all_close;

ModelSpec lory_spec() {
  ModelSpec s = testing::small_spec();
  s.moe->allow_lookahead = true;
  s.moe->gate = {"chain", {{"pool", {{"kind", "segment"}, {"length", 3}}}, {"score", {{"kind", "linear"}, {"init_scale", 10.0}}},
                           {"select", "all"}, {"weigh", "raw"}, {"combine", "parameters"}}};
  return s;
}

torch::Tensor ids() { return torch::tensor({3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 11, 8, 9, 7, 12, 3, 18, 4}, torch::kInt64).view({2, 9}); }

// One call with the cache; what the layer with experts did.
ModelTrace step(LanguageModel& model, KvCache& cache, int64_t first, int64_t last, const torch::Tensor& segments = {}) {
  ModelTrace trace;
  ForwardOptions options;
  options.cache = &cache;
  options.trace = &trace;
  TokenBatch batch{ids().slice(1, first, last).contiguous(), torch::arange(first, last, torch::kInt64).expand({2, last - first}).contiguous(), segments};
  (void)model.forward(batch, options);
  return trace;
}

const ExpertMix& mix_of(const ModelTrace& trace) { return std::get<ExpertMix>(trace.moe.at(1).routing.choice); }

TEST(MergedGeneration, RoutesOnceByTheMeanOfThePromptAndKeepsTheExperts) {
  LanguageModel model(lory_spec(), 1);
  model.eval();
  KvCache cache(model.spec(), 2, 9);
  const auto prompt = step(model, cache, 0, 5);
  const auto x = prompt.moe_input.at(1);  // [2, 5, d]
  const auto p = model.named_parameters();
  const auto weights = at::softmax(at::matmul(x.mean(1), p["layers.1.ffn.gate.score.weight"].t()), 1);
  EXPECT_TRUE(all_close(mix_of(prompt).weights, weights, 1e-5));
  EXPECT_GT((weights[0] - weights[1]).abs().max().item<double>(), 1e-2);
  const auto average = [&](const char* name) { return at::einsum("ge,eij->gij", {weights, p[name]}); };
  const auto expert = testing::ffn_expert("swiglu", average("layers.1.ffn.experts.w_in"), average("layers.1.ffn.experts.w_out"));
  for (int64_t first : {5, 6, 8}) {  // one token, two, one
    const auto trace = step(model, cache, first, first == 6 ? 8 : first + 1);
    EXPECT_TRUE(torch::equal(mix_of(trace).weights, mix_of(prompt).weights)) << first;
    const auto in = trace.moe_input.at(1), out = trace.moe_output.at(1);
    for (int64_t row = 0; row < 2; ++row)
      for (int64_t t = 0; t < in.size(1); ++t) EXPECT_TRUE(all_close(out[row][t], expert(row, in[row][t]), 1e-5)) << first << " row " << row;
  }
}

TEST(MergedGeneration, PaddingOfAPromptIsNoPartOfItsMean) {
  LanguageModel model(lory_spec(), 1);
  model.eval();
  auto segments = torch::zeros({2, 5}, torch::kInt32);
  segments.slice(1, 0, 2)[1] = -1;
  KvCache cache(model.spec(), 2, 9);
  const auto prompt = step(model, cache, 0, 5, segments);
  const auto x = prompt.moe_input.at(1);
  const auto means = at::stack({x[0].mean(0), x[1].slice(0, 2).mean(0)});
  EXPECT_TRUE(all_close(mix_of(prompt).weights, at::softmax(at::matmul(means, model.named_parameters()["layers.1.ffn.gate.score.weight"].t()), 1), 1e-5));
  EXPECT_EQ(prompt.moe_output.at(1)[1].slice(0, 0, 2).abs().sum().item<double>(), 0);
}

}  // namespace
}  // namespace switchyard::merged_generation_test
