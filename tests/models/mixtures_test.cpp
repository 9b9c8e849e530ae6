// Mixtures at the sites of a model: where they sit, what they change and what they leave alone.
#include "core/ops.h"
#include "expect_error.h"
#include "models/golden.h"
#include "models/small_specs.h"
#include "models/mixtures.h"
#include "switchyard/checkpoint.h"
#include "test_files.h"

namespace switchyard::mixtures_test {  // its own: tests of a folder compile as one unit
namespace {

using testing::expect_error;
using testing::small_spec;

const std::vector<std::string> kLinears = {"attn.q", "attn.k", "attn.v", "attn.o", "ffn.gate", "ffn.up", "ffn.down"};

BlockSpec soft_merge() { return {"chain", {{"select", "all"}, {"weigh", "raw"}, {"combine", "parameters"}}}; }

MixtureSpec loras(BlockSpec gate = "dense", BlockSpec experts = {"lora", {{"rank", 2}}}) {
  MixtureSpec m;
  m.sites = kLinears;
  m.num_experts = 3;
  m.gate = std::move(gate);
  m.experts = std::move(experts);
  return m;
}

MixtureSpec vectors() {
  MixtureSpec m;
  m.sites = {"attn.k", "attn.v", "ffn.inner"};
  m.num_experts = 3;
  m.experts = "scale";
  m.gate = soft_merge();
  m.per_head = true;
  return m;
}

// Layer 0 is dense, layer 1 has experts.
ModelSpec with(std::vector<MixtureSpec> mixtures, bool causal = true) {
  ModelSpec s = small_spec();
  s.num_kv_heads = 2;
  s.causal = causal;
  s.mixtures = std::move(mixtures);
  return s;
}

ModelSpec dense_with(std::vector<MixtureSpec> mixtures, bool causal = true) {
  ModelSpec s = with(std::move(mixtures), causal);
  s.moe.reset();
  return s;
}

TokenBatch batch_of(int64_t rows, int64_t seq, bool padding = false) {
  TokenBatch batch{torch::empty({rows, seq}, torch::kInt64), {}, {}};
  for (int64_t i = 0; i < rows * seq; ++i) batch.input_ids.data_ptr<int64_t>()[i] = static_cast<int64_t>(RandomStream(3).below(static_cast<uint64_t>(i), 19));
  if (padding) {
    batch.segments = torch::zeros({rows, seq}, torch::kInt32);
    batch.segments.slice(1, seq - 2).fill_(-1);
  }
  batch.tags = at::floor_divide(torch::arange(rows * seq, torch::kInt64).view({rows, seq}), 3) % 2;
  return batch;
}

// Experts that do something.
void wake(LanguageModel& model, double std = 0.5) {
  torch::NoGradGuard no_grad;
  uint64_t seed = 50;
  for (auto& item : model.named_parameters()) {
    const bool b = item.key().ends_with(".experts.b"), l = item.key().ends_with(".experts.scale");
    if (!b && !l) continue;
    auto noise = torch::empty(item.value().sizes());
    RandomStream(++seed).fill_normal(noise.data_ptr<float>(), noise.numel());
    item.value().copy_(noise * std + (l ? 1 : 0));
  }
}

torch::Tensor hidden(LanguageModel& model, const TokenBatch& batch) { return model.forward(batch).hidden; }

TEST(Mixtures, OfLorasBeginAsTheModelWithoutThemBitForBit) {
  for (const bool with_experts : {false, true}) {
    MixtureSpec soft = loras("dense");
    soft.gate = {"soft_moe"};
    for (auto [mixtures, causal] : {std::pair{std::vector{loras()}, true}, {std::vector{loras(soft_merge())}, true}, {std::vector{soft, loras()}, false}}) {
      for (auto& m : mixtures) if (with_experts) m.sites = {"attn.q", "attn.v"};
      ModelSpec plain = with({}, causal), mixed = with(mixtures, causal);
      if (!with_experts) plain.moe.reset(), mixed.moe.reset();
      LanguageModel a(plain, 5), b(mixed, 5);
      a.eval();
      b.eval();
      const auto batch = batch_of(2, 7, /*padding=*/true);
      EXPECT_TRUE(testing::same_bits(hidden(a, batch), hidden(b, batch)));
      wake(b);
      EXPECT_FALSE(hidden(a, batch).equal(hidden(b, batch)));
    }
  }
}

TEST(Mixtures, OfVectorsBeginAsTheModelWithoutThemButForRounding) {
  LanguageModel a(dense_with({}), 5), b(dense_with({vectors()}), 5);
  const auto batch = batch_of(2, 7);
  const auto want = hidden(a, batch), got = hidden(b, batch);
  EXPECT_LE((want - got).abs().max().item<double>(), 5e-6 * want.abs().max().item<double>());  // two layers of three sites, 1e-6 each at most
  MixtureSpec one = vectors();
  one.num_experts = 1;
  LanguageModel c(dense_with({one}), 5);
  EXPECT_TRUE(testing::same_bits(hidden(c, batch), want));  // a softmax over one is 1 exactly: plain (IA)^3
}

// Oracle: the same model whose matrices have taken in what one LoRA adds, W' = W + s B A.
TEST(Mixtures, AtLinearsEqualMergedMatrices) {
  MixtureSpec m = loras("dense", {"lora", {{"rank", 2}, {"alpha", 6}}});
  m.num_experts = 1;
  LanguageModel mixed(dense_with({m}), 5), merged(dense_with({}), 5);
  wake(mixed);
  torch::NoGradGuard no_grad;
  auto from = mixed.named_parameters(), to = merged.named_parameters();
  for (const int64_t layer : {0, 1}) {
    const auto delta = [&](const char* site) {
      const auto at = fmt::format("layers.{}.mixtures.0.{}.experts.", layer, site);
      return at::matmul(from[at + "b"][0], from[at + "a"][0]) * 3;
    };
    const auto base = fmt::format("layers.{}.", layer);
    for (const char* p : {"q", "k", "v", "o"}) to[base + "attn." + p + "_proj"].add_(delta((std::string("attn_") + p).c_str()));
    to[base + "ffn.w_in"][0].slice(0, 0, 10).add_(delta("ffn_gate"));
    to[base + "ffn.w_in"][0].slice(0, 10).add_(delta("ffn_up"));
    to[base + "ffn.w_out"][0].add_(delta("ffn_down"));
  }
  const auto batch = batch_of(2, 7);
  EXPECT_TRUE(testing::close_to(hidden(mixed, batch), hidden(merged, batch), 1e-5, 1e-5));
}

// Oracle: (IA)^3 merged into the rows of W_k and W_v and the columns of W_out; a factor of a gated product is one of the product.
TEST(Mixtures, OfOneVectorEqualMergedMatrices) {
  MixtureSpec m = vectors();
  m.num_experts = 1;
  LanguageModel mixed(dense_with({m}), 5), merged(dense_with({}), 5);
  wake(mixed);
  torch::NoGradGuard no_grad;
  auto from = mixed.named_parameters(), to = merged.named_parameters();
  for (const int64_t layer : {0, 1}) {
    const auto l = [&](const char* site) { return from[fmt::format("layers.{}.mixtures.0.{}.experts.scale", layer, site)][0]; };
    const auto base = fmt::format("layers.{}.", layer);
    to[base + "attn.k_proj"].mul_(l("attn_k").unsqueeze(1));
    to[base + "attn.v_proj"].mul_(l("attn_v").unsqueeze(1));
    to[base + "ffn.w_out"].mul_(l("ffn_inner"));
  }
  const auto batch = batch_of(2, 7);
  EXPECT_TRUE(testing::close_to(hidden(mixed, batch), hidden(merged, batch), 1e-5, 1e-5));
}

TEST(Mixtures, HaveTheCountsOfTheirFormulas) {
  const auto part = [](const ModelSpec& s) {
    int64_t built = 0;
    LanguageModel model(s, std::nullopt);
    for (const auto& item : model.named_parameters())
      if (item.key().find(".mixtures.") != std::string::npos) built += item.value().numel();
    int64_t all = 0;
    for (const auto& p : model.parameters()) all += p.numel();
    const auto count = count_parameters(s);
    EXPECT_EQ(count.total, all);
    int64_t counted = 0;
    for (const auto& p : count.parts)
      if (p.name.rfind("mixture", 0) == 0) counted += p.total;
    EXPECT_EQ(counted, built);
    return built;
  };
  const int64_t n = 3, r = 2, d = 12, q = 8, f = 10, heads = 2, c = 4;
  const auto linear = [&](int64_t i, int64_t o) { return n * r * (i + o) + n * i; };
  EXPECT_EQ(part(dense_with({loras()})), 2 * (3 * linear(d, q) + linear(q, d) + 2 * linear(d, f) + linear(f, d)));
  EXPECT_EQ(part(dense_with({vectors()})), 2 * (2 * n * f + 2 * (heads * n * c + n * c)));
  MixtureSpec first = loras();
  first.sites = {"attn.q"};
  first.layers = {1};
  EXPECT_EQ(part(with({first})), linear(d, q));
  EXPECT_EQ(part(with({loras()})), 2 * (3 * linear(d, q) + linear(q, d)) + 2 * linear(d, f) + linear(f, d));  // the sparse layer has no ffn sites
  MixtureSpec mole = loras("mole");
  mole.sites = {"attn.q"};
  mole.allow_lookahead = true;
  EXPECT_EQ(part(dense_with({mole})), 2 * (n * r * (d + q) + n * (n * q) + 1));
}

TEST(Mixtures, AreSavedAndLoadedWithTheirModel) {
  const testing::TempDir dir;
  const auto model = std::make_shared<LanguageModel>(with({loras(), vectors()}), 7);
  wake(*model);
  model->eval();
  save_checkpoint({model, nullptr, {}, {}}, dir / "model");
  const auto loaded = load_checkpoint(dir / "model");
  loaded.model->eval();
  EXPECT_EQ(to_json(loaded.model->spec()), to_json(model->spec()));
  EXPECT_TRUE(testing::same_bits(hidden(*loaded.model, batch_of(2, 7)), hidden(*model, batch_of(2, 7))));
}

TEST(Mixtures, CannotBeSaidByAPublishedFamily) {
  const testing::TempDir dir;
  const auto model = std::make_shared<LanguageModel>(dense_with({loras()}), 7);
  expect_error(ErrorKind::unsupported, {"mixtures", "llama"}, [&] { save_checkpoint({model, nullptr, {}, {}}, dir / "model", {.family = "llama"}); });
}

TEST(Mixtures, RestrictedToTagsLeaveOtherTokensAlone) {
  MixtureSpec l = loras(), v = vectors();
  l.sites = {"ffn.up", "ffn.down"};  // no mixing of tokens behind them
  v.sites = {"ffn.inner"};
  l.tags = {1};
  v.tags = {1};
  l.layers = v.layers = {1};
  LanguageModel plain(dense_with({}), 5), mixed(dense_with({l, v}), 5);
  wake(mixed);
  const auto batch = batch_of(2, 9);
  const auto a = hidden(plain, batch), b = hidden(mixed, batch);
  EXPECT_TRUE(testing::same_bits(a.index({batch.tags == 0}), b.index({batch.tags == 0})));
  EXPECT_FALSE((a == b).all(-1).index({batch.tags == 1}).any().item<bool>());
  auto untagged = batch;
  untagged.tags = torch::Tensor();
  expect_error(ErrorKind::usage, {"mixture 0", "ffn.up", "tags"}, [&] { (void)hidden(mixed, untagged); });
}

TEST(Mixtures, StatisticsComeInTheOrderOfTheSites) {
  MixtureSpec l = loras({"top_k", {{"k", 1}, {"renormalise", false}}}), v = vectors();
  l.tags = {1};
  LanguageModel model(with({l, v}), 5);
  const auto batch = batch_of(2, 9);
  const auto out = model.forward(batch);
  std::vector<std::string> got;
  for (const auto& one : out.mixtures) got.push_back(fmt::format("{}:{}:{}", one.stats.layer, one.mixture, one.site));
  const std::vector<std::string> want = {"0:0:attn.q", "0:0:attn.k", "0:1:attn.k", "0:0:attn.v",    "0:1:attn.v",  "0:0:attn.o", "0:0:ffn.gate",
                                         "0:0:ffn.up", "0:1:ffn.inner", "0:0:ffn.down", "1:0:attn.q", "1:0:attn.k", "1:1:attn.k", "1:0:attn.v",
                                         "1:1:attn.v", "1:0:attn.o"};
  EXPECT_EQ(got, want);
  EXPECT_EQ(model.mixtures().size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) EXPECT_EQ(model.mixtures()[i]->options().experts.kind, out.mixtures[i].mixture == 0 ? "lora" : "scale") << want[i];
  EXPECT_EQ(out.mixtures[0].stats.num_tokens, (batch.tags == 1).sum().item<int64_t>());
  EXPECT_EQ(out.mixtures[2].stats.num_tokens, 2 * 18);  // two heads of each token
  EXPECT_EQ(out.stats.size(), 1u);
}

TEST(Mixtures, LossesAreAddedAndNamedByTheirMixture) {
  MixtureSpec l = loras({"top_k", {{"k", 1}, {"renormalise", false}}});
  l.losses = {{"load_balance", {{"weight", 0.5}}}};
  ModelSpec spec = with({vectors(), l});
  spec.moe->losses = {{"router_z", {{"weight", 0.1}}}};
  LanguageModel model(spec, 5);
  const auto out = model.forward(batch_of(2, 9));
  const auto all = model.aux_loss(out), moe = model.aux_loss(out.stats);
  ASSERT_EQ(all.values.size(), 2u);
  EXPECT_EQ(all.values[1].name, "mixtures[1].load_balance");
  const auto loss = loss_registry().make({"load_balance"});
  double sum = 0;
  for (const auto& one : out.mixtures)
    if (one.mixture == 1) sum += loss->value(one.stats).item<double>();
  EXPECT_NEAR(all.values[1].raw, sum, 1e-4);
  EXPECT_NEAR(all.total.item<double>(), moe.total.item<double>() + 0.5 * sum, 1e-4);
}

TEST(Mixtures, RecomputedActivationsGiveTheSameGradients) {
  MixtureSpec l = loras({"top_k", {{"k", 2}, {"jitter_eps", 0.1}}}, {"lora", {{"rank", 2}, {"dropout", 0.2}}});
  l.losses = {{"router_z", {{"weight", 0.5}}}, {"load_balance", {{"weight", 0.5}}}};
  LanguageModel model(with({l, vectors()}), 5);
  wake(model);
  model.train();
  const auto batch = batch_of(2, 9, true);
  const auto gradients = [&](bool recompute) {
    model.zero_grad();
    const auto out = model.forward(batch, {.checkpoint_activations = recompute});
    (out.hidden.square().sum() + model.aux_loss(out).total).backward();
    std::map<std::string, torch::Tensor> grads;
    for (const auto& p : model.named_parameters())
      if (p.value().grad().defined()) grads.emplace(p.key(), p.value().grad().clone());
    return grads;
  };
  const auto kept = gradients(false), again = gradients(true);
  ASSERT_EQ(kept.size(), again.size());
  for (const auto& [name, grad] : kept) EXPECT_TRUE(torch::equal(grad, again.at(name))) << name;
  EXPECT_GT(kept.at("layers.0.mixtures.0.ffn_up.gate.score.weight").abs().max().item<double>(), 0);
}

TEST(Mixtures, CachedTokensEqualTheWholeSequence) {
  const torch::NoGradGuard no_grad;
  LanguageModel model(with({loras(soft_merge()), vectors()}), 5);
  wake(model);
  model.eval();
  const auto batch = batch_of(2, 8);
  const auto whole = hidden(model, batch);
  KvCache cache(model.spec(), 2, 8);
  ForwardOptions options;
  options.cache = &cache;
  std::vector<torch::Tensor> parts;
  for (const auto& [first, last] : {std::pair{0, 5}, {5, 6}, {6, 8}})
    parts.push_back(model.forward({batch.input_ids.slice(1, first, last).contiguous(), {}, {}}, options).hidden);
  EXPECT_TRUE(testing::close_to(at::cat(parts, 1), whole, 1e-5, 1e-5));
}

TEST(Mixtures, GradientsEqualFiniteDifferencesInDoublePrecision) {
  LanguageModel model(dense_with({loras(soft_merge()), vectors()}), 4);
  wake(model);
  model.to(torch::kFloat64);
  const auto batch = batch_of(2, 5);
  const auto loss = [&] { return model.forward(batch).hidden.pow(3).sum(); };
  model.zero_grad();
  loss().backward();
  torch::NoGradGuard no_grad;
  for (auto& item : model.named_parameters()) {
    if (item.key().find(".mixtures.") == std::string::npos) continue;
    const auto grad = item.value().grad().view({-1});
    const auto i = grad.abs().argmax().item<int64_t>();
    auto flat = item.value().view({-1});
    const double before = flat[i].item<double>(), h = 1e-5;
    flat[i] = before + h;
    const double up = loss().item<double>();
    flat[i] = before - h;
    const double down = loss().item<double>();
    flat[i] = before;
    EXPECT_NEAR((up - down) / (2 * h), grad[i].item<double>(), 1e-6 * std::max(1.0, std::abs(grad[i].item<double>()))) << item.key();
  }
}

TEST(Mixtures, MistakesAreNamed) {
  const auto refused = [](std::initializer_list<std::string_view> words, MixtureSpec m, bool sparse = false) {
    expect_error(ErrorKind::config, words, [&] { (void)(sparse ? with({loras(), std::move(m)}) : dense_with({loras(), std::move(m)})).resolved(); });
  };
  const auto changed = [](auto change, MixtureSpec m = loras()) {
    change(m);
    return m;
  };
  refused({"mixtures[1].sites", "ffn.dwn", "ffn.down"}, changed([](auto& m) { m.sites = {"ffn.dwn"}; }));
  refused({"mixtures[1].sites is empty"}, changed([](auto& m) { m.sites = {}; }));
  refused({"mixtures[1].sites", "twice"}, changed([](auto& m) { m.sites = {"attn.q", "attn.q"}; }));
  refused({"mixtures[1].layers holds 2", "0 to 1"}, changed([](auto& m) { m.layers = {2}; }));
  refused({"mixtures[1].layers", "layer 1 has no site 'ffn.gate'"}, changed([](auto& m) { m.layers = {1}; }), true);
  refused({"mixtures[1].num_experts = 0"}, changed([](auto& m) { m.num_experts = 0; }));
  refused({"mixtures[1].tags holds -1"}, changed([](auto& m) { m.tags = {-1}; }));
  refused({"lorra", "lora"}, changed([](auto& m) { m.experts = "lorra"; }));
  refused({"mixtures[1]", "rank = 0"}, changed([](auto& m) { m.experts = {"lora", {{"rank", 0}}}; }));
  refused({"mixtures[1]", "'linear'", "attn.q makes 8 of 12", "lora"}, changed([](auto& m) { m.experts = "linear"; }));
  refused({"mixtures[1]", "per_head", "scale"}, changed([](auto& m) { m.per_head = true; }));
  refused({"mixtures[1].gate", "soft_moe", "allow_lookahead"}, changed([](auto& m) { m.gate = "soft_moe"; }));
  refused({"load_balanse", "load_balance"}, changed([](auto& m) { m.losses = {"load_balanse"}; }));
  refused({"top_k = 9 exceeds num_experts = 3"}, changed([](auto& m) { m.gate = {"top_k", {{"k", 9}}}; }));
}

}  // namespace
}  // namespace switchyard::mixtures_test
