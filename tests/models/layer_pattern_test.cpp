// Models as lists of layers: the same blocks as without a list, and blocks that only a list can say.
#include "core/ops.h"
#include "base/config_tree.h"
#include "expect_error.h"
#include "models/canonical_spec.h"
#include "models/family.h"
#include "models/golden.h"
#include "models/small_specs.h"
#include "switchyard/checkpoint.h"
#include "test_files.h"

#include <random>

namespace switchyard::layer_pattern_test {  // its own: tests of a folder compile as one unit
namespace {

using namespace switchyard::testing;

LayerSpec layer(std::string kind) {
  LayerSpec out;
  out.kind = std::move(kind);
  return out;
}

// A model of these layers, each once; sizes of small_spec.
ModelSpec model_of(std::vector<LayerSpec> pattern) {
  ModelSpec s = small_spec();
  s.moe->every = 1;
  s.moe->offset = 0;
  s.num_layers = static_cast<int64_t>(pattern.size());
  s.pattern = std::move(pattern);
  return s;
}

// Attention, then three networks of widths of their own.
ModelSpec mixed() {
  LayerSpec wide = layer("dense"), few = layer("moe");
  wide.d_ff = 20;
  wide.ffn = "relu";
  few.d_expert = 5;
  few.moe = {{"num_experts", 3}, {"experts", "gelu"}, {"capacity", {{"factor", 2.0}, {"eval_factor", 2.0}}}};
  return model_of({layer("attention"), layer("moe"), wide, few});
}

TokenBatch batch_of(int64_t batch, int64_t seq, uint64_t seed = 3) {
  auto ids = torch::empty({batch, seq}, torch::kInt64);
  const RandomStream random(seed, "ids");
  for (int64_t i = 0; i < ids.numel(); ++i) ids.data_ptr<int64_t>()[i] = static_cast<int64_t>(random.below(static_cast<uint64_t>(i), 19));
  return {ids, {}, {}};
}

int64_t built_parameters(const ModelSpec& s) {
  int64_t out = 0;
  for (const auto& p : LanguageModel(s, std::nullopt).parameters()) out += p.numel();
  return out;
}

void expect_same_model(const ModelSpec& a, const ModelSpec& b) {
  LanguageModel one(a, 5), two(b, 5);
  const auto p = one.named_parameters(), q = two.named_parameters();
  ASSERT_EQ(p.size(), q.size());
  for (const auto& item : p) EXPECT_TRUE(same_bits(item.value(), q[item.key()])) << item.key();
  const auto batch = batch_of(2, 9);
  EXPECT_TRUE(same_bits(one.forward(batch).hidden, two.forward(batch).hidden));
  const auto m = count_parameters(a), n = count_parameters(b);
  EXPECT_EQ(m.total, n.total);
  EXPECT_EQ(m.active, n.active);
  EXPECT_EQ(m.flops_per_token, n.flops_per_token);
}

TEST(LayerPattern, ReproducesTheVanillaTransformerAndTheBlockOfGLaM) {
  ModelSpec vanilla = llama_like_spec(), list = vanilla;
  list.pattern = {layer("attention+dense")};
  expect_same_model(list, vanilla);

  ModelSpec glam = small_spec();  // experts in every second layer
  glam.num_layers = 4;
  list = glam;
  list.moe->every = 1;
  list.moe->offset = 0;
  list.pattern = {layer("attention+dense"), layer("attention+moe")};
  expect_same_model(list, glam);

  ModelSpec all = mixtral_like_spec();
  list = all;
  list.pattern = {layer("attention+moe")};
  expect_same_model(list, all);
}

// Layer 2i holds what was the attention of layer i, layer 2i + 1 its network.
std::string split_name(const std::string& name) {
  if (name.rfind("layers.", 0) != 0) return name;
  const auto dot = name.find('.', 7);
  const int64_t i = std::stoll(name.substr(7, dot - 7));
  const bool network = name.compare(dot + 1, 3, "ffn") == 0;
  return "layers." + std::to_string(2 * i + (network ? 1 : 0)) + name.substr(dot);
}

TEST(LayerPattern, AttentionAndNetworkAsTwoLayersComputeWhatTheyDoAsOne) {
  ModelSpec joint = small_spec();
  joint.num_layers = 4;
  ModelSpec list = joint;
  list.num_layers = 8;
  list.moe->every = 1;
  list.moe->offset = 0;
  list.pattern = {layer("attention"), layer("dense"), layer("attention"), layer("moe")};
  LanguageModel one(joint, 5), two(list, 6);
  const torch::NoGradGuard no_grad;
  for (const auto& item : one.named_parameters()) two.named_parameters()[split_name(item.key())].copy_(item.value());
  const auto batch = batch_of(2, 9);
  EXPECT_TRUE(same_bits(one.forward(batch).hidden, two.forward(batch).hidden));
  const auto m = count_parameters(joint), n = count_parameters(list);
  EXPECT_EQ(m.total, n.total);
  EXPECT_EQ(m.active, n.active);
  EXPECT_EQ(m.flops_per_token, n.flops_per_token);
}

TEST(LayerPattern, InitialDeviationsFollowTheNumberOfResidualSums) {
  ModelSpec s = model_of({layer("attention"), layer("moe"), layer("dense"), layer("dense")});
  s.d_model = 64;
  s.d_ff = 256;
  s.init_std = 0.02;
  EXPECT_EQ(s.num_branches(), 4);
  LanguageModel model(s, 1);
  // Sampling error of a deviation from n = 16384 values: 1 / sqrt(2 n); five sigmas.
  EXPECT_NEAR(model.named_parameters()["layers.2.ffn.w_out"].std().item<double>() / (0.02 / 2), 1, 5 / std::sqrt(2 * 16384.0));
}

torch::Tensor norm_of(const torch::Tensor& x, const torch::Tensor& weight, double eps) {
  return x * at::rsqrt(x.square().mean(-1, true) + eps) * weight;
}

// y = x' + MoE(norm(x')), z = y + FFN(norm2(y)), the second network with a norm of its own.
TEST(StMoe, ADenseNetworkBehindTheExpertsHasItsOwnNormAndResidualSum) {
  ModelSpec s = model_of({layer("attention+moe"), layer("dense")});
  s.ffn = "relu";
  LanguageModel model(s, 5);
  const torch::NoGradGuard no_grad;
  auto p = model.named_parameters();
  p["layers.1.ffn_norm"].uniform_(0.5, 1.5);
  ModelTrace trace;
  ForwardOptions options;
  options.trace = &trace;
  (void)model.forward(batch_of(2, 7), options);
  const auto y = trace.hidden_states[1].to(torch::kFloat64);
  const auto inner = at::relu(at::matmul(norm_of(y, p["layers.1.ffn_norm"].to(torch::kFloat64), s.norm_eps), p["layers.1.ffn.w_in"][0].to(torch::kFloat64).t()));
  const auto z = y + at::matmul(inner, p["layers.1.ffn.w_out"][0].to(torch::kFloat64).t());
  EXPECT_TRUE(close_to(trace.last_layer_output, z.to(torch::kFloat32), 1e-5, 1e-5));
}

TEST(StMoe, ADenseNetworkThatWritesNothingLeavesThePlainLayer) {
  ModelSpec s = model_of({layer("attention+moe"), layer("dense")}), plain = model_of({layer("attention+moe")});
  LanguageModel with(s, 5), without(plain, 6);
  const torch::NoGradGuard no_grad;
  auto to = without.named_parameters();
  for (const auto& item : with.named_parameters())
    if (item.key().rfind("layers.1.", 0) != 0) to[item.key()].copy_(item.value());
  with.named_parameters()["layers.1.ffn.w_out"].zero_();
  const auto batch = batch_of(2, 7);
  EXPECT_TRUE(same_bits(with.forward(batch).hidden, without.forward(batch).hidden));
  // d more for the norm, three matrices more for the network.
  EXPECT_EQ(count_parameters(s).total - count_parameters(plain).total, 12 + 3 * 12 * 10);
}

TEST(LayerPatternCount, FollowsTheFormulaForFreeWidths) {
  const auto count = count_parameters(mixed());
  const int64_t d = 12, vocab = 19;
  const int64_t attention = d * (2 * 8 + 2 * 4);              // q, o of 2 heads and k, v of 1, each 4 wide
  const int64_t swiglu_expert = 3 * d * 6, gelu_expert = 2 * d * 5, routers = d * 4 + d * 3;
  const int64_t dense = 2 * d * 20, norms = (4 + 1) * d;
  EXPECT_EQ(count.total, 2 * vocab * d + attention + norms + routers + 4 * swiglu_expert + 3 * gelu_expert + dense);
  EXPECT_EQ(count.active, 2 * vocab * d + attention + norms + routers + 2 * swiglu_expert + 2 * gelu_expert + dense);
  const double keys = 16 / 2.0;
  EXPECT_EQ(count.flops_per_token, 2.0 * (vocab * d + attention + routers + 2 * swiglu_expert + 2 * gelu_expert + dense) + 4.0 * 8 * keys);
  EXPECT_EQ(built_parameters(mixed()), count.total);
}

TEST(LayerPatternCount, EqualsTheBuiltModelForRandomListsAlsoAfterPrintingAndReading) {
  std::mt19937 rng(11);
  const auto draw = [&](int64_t low, int64_t high) { return low + static_cast<int64_t>(rng() % static_cast<uint64_t>(high - low + 1)); };
  const char* kinds[] = {"attention", "dense", "moe", "attention+dense", "attention+moe"};
  for (int trial = 0; trial < 40; ++trial) {
    ModelSpec s = model_of({layer("moe")});
    for (int64_t i = draw(0, 4); i > 0; --i) {
      LayerSpec more = layer(kinds[rng() % 5]);
      const bool dense = more.kind.find("dense") != std::string::npos, moe = more.kind.find("moe") != std::string::npos;
      if (dense) more.d_ff = draw(0, 9);
      if (dense && rng() % 2) more.ffn = "gelu";
      if (moe) more.d_expert = draw(0, 9);
      if (moe && rng() % 2)
        more.moe = {{"num_experts", draw(2, 5)}, {"num_shared_experts", draw(1, 2)}, {"join", rng() % 2 ? "cmr" : "sum"}};
      s.pattern.push_back(more);
    }
    s.num_layers = static_cast<int64_t>(s.pattern.size()) + draw(0, 3);
    const auto count = count_parameters(s);
    EXPECT_EQ(count.total, built_parameters(s)) << to_json(s).dump();
    const auto printed = to_json(s.resolved());
    const auto again = read_model_spec(config_from_json(printed, "spec"), "spec");
    EXPECT_EQ(to_json(again.resolved()), printed);
    EXPECT_EQ(count_parameters(again).total, count.total);
  }
}

TEST(LayerPattern, RepeatsOverTheLayersAndEachHasWhatItsEntrySays) {
  ModelSpec s = mixed();
  s.num_layers = 10;
  const ModelSpec r = s.resolved();
  LanguageModel model(s, 1);
  std::vector<int64_t> with_experts, num_experts;
  for (const auto& [i, moe] : model.moe_layers()) {
    with_experts.push_back(i);
    num_experts.push_back(moe->options().num_experts);
    EXPECT_EQ(moe->options().capacity.factor, i % 4 == 3 ? 2.0 : 0.0);
  }
  EXPECT_EQ(with_experts, (std::vector<int64_t>{1, 3, 5, 7, 9}));
  EXPECT_EQ(num_experts, (std::vector<int64_t>{4, 3, 4, 3, 4}));
  EXPECT_TRUE(r.layer(8).mixer && !r.layer(8).d_ff && !r.layer(8).moe);
  EXPECT_EQ(r.layer(6).d_ff, 20);
  EXPECT_EQ(r.pattern[1].d_expert, 6);
  const KvCache cache(s, 2, 5);
  for (int64_t i = 0; i < 10; ++i) {
    const auto& state = cache.states[static_cast<size_t>(i)];
    EXPECT_EQ(state.size(), i % 4 == 0 ? 2u : 0u) << i;
    if (!state.empty()) {
      EXPECT_EQ(state[0].size(1), 5) << i;
    }
  }
}

TEST(LayerPattern, CachedTokensEqualTheWholeSequenceAndLaterOnesChangeNothing) {
  const torch::NoGradGuard no_grad;
  ModelSpec s = mixed();
  s.pattern[3].moe = {{"num_experts", 3}};  // without a capacity, so that tokens do not compete
  s.num_layers = 8;
  LanguageModel model(s, 1);
  model.eval();
  const auto batch = batch_of(2, 8);
  const auto whole = model.forward(batch).hidden;
  KvCache cache(model.spec(), 2, 8);
  ForwardOptions options;
  options.cache = &cache;
  std::vector<torch::Tensor> parts;
  for (const auto& [first, last] : {std::pair{0, 5}, {5, 6}, {6, 8}})
    parts.push_back(model.forward({batch.input_ids.slice(1, first, last).contiguous(), {}, {}}, options).hidden);
  EXPECT_TRUE(close_to(at::cat(parts, 1), whole, 1e-5, 1e-5));
  auto changed = batch.input_ids.clone();
  changed.slice(1, 5) = 0;
  EXPECT_TRUE(same_bits(model.forward({changed, {}, {}}).hidden.slice(1, 0, 5), whole.slice(1, 0, 5)));
}

TEST(LayerPattern, RecomputedActivationsGiveTheSameBitsAlsoWithMixedJoins) {
  ModelSpec s = mixed();
  s.dropout = 0.2;
  s.moe->num_shared_experts = 1;
  s.moe->join = "cmr";
  s.moe->losses = {{"router_z", {{"weight", 0.1}}}, {"routed_budget", {{"weight", 0.3}, {"layer_reduce", "pooled"}}}};
  LanguageModel model(s, 2);
  model.train();
  const auto batch = batch_of(2, 7);
  const auto gradients = [&](bool recompute) {
    model.zero_grad();
    const auto out = model.forward(batch, {.step = 3, .seed = 11, .checkpoint_activations = recompute});
    (ops::cross_entropy(model.logits(out.hidden).flatten(0, 1), batch.input_ids.flatten().roll(-1)).mean() + model.aux_loss(out.stats).total).backward();
    std::map<std::string, torch::Tensor> grads;
    for (const auto& item : model.named_parameters()) grads.emplace(item.key(), item.value().grad().clone());
    return grads;
  };
  const auto kept = gradients(false), recomputed = gradients(true);
  EXPECT_GT(kept.at("layers.1.ffn.join.bias").abs().item<double>(), 0);
  for (const auto& [name, gradient] : kept) EXPECT_TRUE(same_bits(recomputed.at(name), gradient)) << name;
}

TEST(LayerPattern, LossesThatPoolTokensNeedLayersOfOneShape) {
  ModelSpec s = mixed();
  s.moe->losses = {{"load_balance", {{"weight", 0.1}, {"layer_reduce", "pooled"}}}};
  LanguageModel model(s, 2);
  const auto stats = model.forward(batch_of(2, 7)).stats;
  expect_error(ErrorKind::config, {"pooled", "layer 1 has 4 experts", "layer 3 has 3", "'sum' or 'mean'"}, [&] { (void)model.aux_loss(stats); });
  s.moe->losses = {{"load_balance", {{"weight", 0.1}}}};
  EXPECT_TRUE(std::isfinite(LanguageModel(s, 2).aux_loss(stats).total.item<double>()));
}

// The other gate of Brainformer's search space belongs to models that see the whole text.
TEST(LayerPattern, ExpertsMayChooseTheirTokensWhereTheModelIsNotCausal) {
  ModelSpec s = mixed();
  s.pattern[1].moe = {{"gate", {{"kind", "chain"}, {"select", {{"kind", "expert_choice"}, {"capacity_factor", 2.0}}}, {"weigh", "raw"}}}};
  expect_error(ErrorKind::config, {"model.pattern[1]", "later tokens", "causal"}, [&] { (void)s.resolved(); });
  s.causal = false;
  LanguageModel model(s, 2);
  const auto stats = model.forward(batch_of(2, 8)).stats;
  EXPECT_TRUE(stats[0].counts.eq(8).all().item<bool>()) << "2 * 16 tokens over 4 experts: equal by construction";
  EXPECT_EQ(stats[1].counts.sum().item<double>(), 32) << "the other layer still lets tokens choose two experts";
}

TEST(LayerPattern, SavedAndLoadedItIsTheSameModel) {
  const TempDir dir;
  ModelSpec s = mixed();
  s.moe->num_shared_experts = 1;
  s.moe->join = {"cmr", {{"dropout", 0.0}}};
  const Checkpoint saved{.model = std::make_shared<LanguageModel>(s, 3)};
  save_checkpoint(saved, dir / "m");
  const auto again = load_checkpoint(dir / "m");
  EXPECT_EQ(to_json(again.model->spec()), to_json(saved.model->spec()));
  const auto batch = batch_of(2, 7);
  EXPECT_TRUE(same_bits(again.model->forward(batch).hidden, saved.model->forward(batch).hidden));
}

TEST(LayerPattern, PublishedFamiliesStateOnlyListsThatSayNothingNew) {
  for (const char* family : {"mixtral", "llama"}) {
    const bool sparse = std::string(family) == "mixtral";
    ModelSpec s = sparse ? mixtral_like_spec() : llama_like_spec();
    s.pattern = {layer(sparse ? "attention+moe" : "attention+dense")};
    EXPECT_EQ(cannot_state(find_family(family), s), std::nullopt) << family;
    s.pattern.insert(s.pattern.begin(), layer("attention"));
    const auto reason = cannot_state(find_family(family), s);
    ASSERT_TRUE(reason) << family;
    EXPECT_NE(reason->find("pattern"), std::string::npos) << *reason;
  }
  EXPECT_EQ(cannot_state(find_family("switchyard"), mixed()), std::nullopt);
  ModelSpec joined = mixtral_like_spec();
  joined.moe->num_shared_experts = 1;
  joined.moe->join = "cmr";
  EXPECT_TRUE(cannot_state(find_family("mixtral"), joined));
}

TEST(LayerPattern, IsReadFromWordsAndTables) {
  const auto root = parse_toml("vocab_size = 9\nnum_layers = 3\n"
                               "pattern = [\"attention\", { kind = \"moe\", d_expert = 7, moe = { num_experts = 3 } }, { kind = \"dense\", d_ff = 5, ffn = \"relu\" }]\n[moe]\n", "r.toml");
  const ModelSpec s = read_model_spec(root, "model").resolved();
  EXPECT_EQ(s.layer(1).moe->d_expert, 7);
  EXPECT_EQ(s.layer(1).moe->num_experts, 3);
  EXPECT_EQ(s.layer(2).d_ff, 5);
  EXPECT_EQ(s.layer(2).ffn.kind, "relu");
  const auto wrong = [](const char* pattern) {
    return [pattern] { (void)read_model_spec(parse_toml(std::string("vocab_size = 9\nnum_layers = 2\npattern = ") + pattern + "\n[moe]\n", "r.toml"), "model").resolved(); };
  };
  expect_error(ErrorKind::config, {"r.toml:3", "num_expert", "num_experts", "model.pattern[0].moe"}, wrong("[{ kind = \"moe\", moe = { num_expert = 3 } }]"));
  expect_error(ErrorKind::config, {"r.toml:3", "d_fff", "model.pattern[0]"}, wrong("[{ kind = \"dense\", d_fff = 3 }]"));
  expect_error(ErrorKind::config, {"r.toml:3", "model.pattern[1]", "a table"}, wrong("[\"moe\", 3]"));
}

TEST(LayerPattern, WhatMakesNoSenseIsRefusedByEntry) {
  const auto refused = [](std::initializer_list<std::string_view> words, std::vector<LayerSpec> pattern, const std::function<void(ModelSpec&)>& change = {}) {
    ModelSpec s = model_of(std::move(pattern));
    if (change) change(s);
    expect_error(ErrorKind::config, words, [&] { (void)s.resolved(); });
  };
  const auto with = [](LayerSpec l, const std::function<void(LayerSpec&)>& change) {
    change(l);
    return l;
  };
  refused({"pattern[1]", "attention+mo", "attention+moe"}, {layer("moe"), layer("attention+mo")});
  refused({"pattern[0]", "''"}, {layer("")});
  refused({"pattern[0]", "d_ff", "no dense network"}, {with(layer("moe"), [](LayerSpec& l) { l.d_ff = 3; })});
  refused({"pattern[0]", "ffn", "no dense network"}, {with(layer("moe"), [](LayerSpec& l) { l.ffn = "relu"; })});
  refused({"pattern[1]", "d_expert", "no experts"}, {layer("moe"), with(layer("dense"), [](LayerSpec& l) { l.d_expert = 3; })});
  refused({"pattern[1]", "has moe", "no experts"}, {layer("moe"), with(layer("attention"), [](LayerSpec& l) { l.moe = {{"num_experts", 3}}; })});
  refused({"pattern[0].d_expert = -1"}, {with(layer("moe"), [](LayerSpec& l) { l.d_expert = -1; })});
  refused({"pattern[0]", "d_expert = 3", "moe.d_expert = 4"}, {with(layer("moe"), [](LayerSpec& l) { l.d_expert = 3, l.moe = {{"d_expert", 4}}; })});
  refused({"pattern[0].moe.every"}, {with(layer("moe"), [](LayerSpec& l) { l.moe = {{"every", 2}}; })});
  refused({"pattern[0].moe.losses", "all layers"}, {with(layer("moe"), [](LayerSpec& l) { l.moe = {{"losses", ConfigNode::Array{}}}; })});
  refused({"pattern[1]", "top_k = 2 exceeds num_experts = 1"}, {layer("moe"), with(layer("moe"), [](LayerSpec& l) { l.moe = {{"num_experts", 1}}; })});
  refused({"pattern[0]", "swigul", "swiglu"}, {with(layer("dense"), [](LayerSpec& l) { l.ffn = "swigul"; }), layer("moe")});
  refused({"pattern[0]", "'cmr'", "num_shared_experts = 0"}, {with(layer("moe"), [](LayerSpec& l) { l.moe = {{"join", "cmr"}}; })});
  refused({"no layer of model.pattern has experts"}, {layer("attention+dense")});
  refused({"pattern[0] = 'moe'", "no [model.moe]"}, {layer("moe")}, [](ModelSpec& s) { s.moe.reset(); });
  refused({"2 entries", "num_layers = 1"}, {layer("moe"), layer("dense")}, [](ModelSpec& s) { s.num_layers = 1; });
  refused({"every = 2", "model.pattern"}, {layer("moe")}, [](ModelSpec& s) { s.moe->every = 2; });
  refused({"parameters"}, {with(layer("moe"), [](LayerSpec& l) { l.d_expert = int64_t{1} << 30, l.moe = {{"num_experts", 1 << 30}}; })},
          [](ModelSpec& s) { s.d_model = 1 << 20, s.num_heads = 2, s.head_dim = 4; });
}

}  // namespace
}  // namespace switchyard::layer_pattern_test
