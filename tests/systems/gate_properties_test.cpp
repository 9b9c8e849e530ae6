// What every gate promises, asked of every gate recipe of systems.tsv: names and order mean nothing, padding is not there,
// evaluation is a function, groups are independent, threads change nothing, all experts chosen is the dense gate, causal is
// causal, saved is saved. gate_exemptions.h says what is not asked of whom, and why.
#include "expect_error.h"
#include "support/moe_oracle.h"
#include "switchyard/checkpoint.h"
#include "systems/gate_exemptions.h"
#include "systems/gate_subject.h"
#include "test_files.h"

#include <ATen/Parallel.h>

namespace switchyard::gate_properties_test {  // its own: tests of a folder compile as one unit
namespace {

using namespace systems;
using testing::all_close;

// Sums of some dozens of float32 products of unit size, in another order.
constexpr double kTolerance = 1e-4;

struct EveryGate : ::testing::TestWithParam<System> {
  ModelSpec spec = small_spec_of(GetParam());
  c10::NoGradGuard no_grad;
};

void set_option(BlockSpec& block, const std::string& key, const ConfigNode& value) {
  if (ConfigNode* there = block.options.find(key)) *there = value;
  else block.options.table()->emplace_back(key, value);
}

BlockSpec block_at(const BlockSpec& gate, const std::string& key, const BlockSpec& absent) {
  BlockSpec out = absent;
  if (const ConfigNode* node = gate.options.find(key)) read_any(*node, key, out);
  return out;
}

// --- (a) names of experts -------------------------------------------------------------------------------------------------

// order[new number] = old number. Groups of experts (devices, prototypes, levels) stay together.
torch::Tensor new_order(const ModelSpec& spec) {
  int64_t groups = std::max<int64_t>(1, spec.moe->capacity.devices);
  auto options = spec.moe->gate.options;
  change_integers(options, [&](const std::string& key, int64_t value) { return key == "groups" ? groups = std::max(groups, value) : value; });
  const int64_t experts = spec.moe->num_experts, size = experts / groups;
  auto order = torch::empty({experts}, torch::kInt64);
  for (int64_t e = 0; e < experts; ++e) order[e] = (e / size + 1) % groups * size + (size - e % size + size / 2) % size;
  return order;
}

// A tensor of a gate whose rows are experts, in the new order; any other tensor as it is.
torch::Tensor in_order(const std::string& name, const torch::Tensor& t, const torch::Tensor& order) {
  const int64_t experts = order.size(0);
  if (t.dim() == 0 || name.rfind("pool.", 0) == 0) return t;
  if (name.find("primary") != std::string::npos) return t.roll(-1, 0);  // the groups of the hierarchical gate, moved by one
  if (t.dim() == 3 && t.size(0) * t.size(1) == experts) return t.flatten(0, 1).index_select(0, order).view(t.sizes());  // [groups, size, d]
  for (int64_t d = 0; d < t.dim(); ++d)
    if (t.size(d) == experts) return t.index_select(d, order);
  const int64_t times = t.size(0) / experts;
  if (t.size(0) % experts != 0 || (name != "score.weight" && name.find("phi") == std::string::npos)) return t;
  if (name != "score.weight") return t.view({experts, times, -1}).index_select(0, order).view(t.sizes());         // slots, expert by expert
  if (times == 3) return t.view({times, experts, -1}).index_select(1, order).view(t.sizes());            // queries, keys, values
  return at::cat({t.slice(0, 0, experts).index_select(0, order), t.slice(0, experts)});                   // null experts stay
}

struct RenamedExperts : EveryGate {};
INSTANTIATE_TEST_SUITE_P(Gates, RenamedExperts, ::testing::ValuesIn(gates_with("RenamedExperts")), id_of);

TEST_P(RenamedExperts, GiveTheSameOutput) {
  const Subject one(spec), other(spec);
  const auto order = new_order(spec), number = at::argsort(order);
  bool has_columns = false;
  for (auto named : {other.layer().gate().named_parameters(), other.layer().gate().named_buffers()})
    for (auto& item : named) {
      const auto moved = in_order(item.key(), item.value(), order).clone();
      has_columns = has_columns || !torch::equal(moved, item.value());
      item.value().copy_(moved);
    }
  for (auto& item : other.layer().experts().named_parameters())
    if (item.key().rfind("shared.", 0) != 0) item.value().copy_(item.value().index_select(0, order).clone());

  const auto in = call_of(4, 12, spec.d_model);
  MoETrace trace;
  const auto want = one.forward(in, &trace);
  EXPECT_GT(want.abs().max().item<double>(), 1e-3) << "says nothing";
  if (has_columns) {
    EXPECT_TRUE(all_close(other.forward(in), want, kTolerance));
    return;
  }
  // A gate that names experts by other means than columns of a router: its decision is what is renamed.
  Routing renamed = trace.routing;
  auto& ids = std::get<TokenChoice>(renamed.choice).expert_ids;
  ids = at::where(ids >= 0, number.index_select(0, ids.clamp_min(0).view({-1})).view(ids.sizes()), ids);
  EXPECT_TRUE(all_close(other.layer().apply(in.hidden, in, renamed), want, kTolerance));
}

// --- (b) order of tokens --------------------------------------------------------------------------------------------------

struct RenamedTokens : EveryGate {};
INSTANTIATE_TEST_SUITE_P(Gates, RenamedTokens, ::testing::ValuesIn(gates_with("RenamedTokens")), id_of);

// Who is dropped by order of arrival depends on that order: such recipes are asked without capacity. In training, those
// that draw nothing.
TEST_P(RenamedTokens, GiveTheSameOutputsInTheOtherOrder) {
  if (spec.moe->capacity.priority.kind != "score") spec.moe->capacity = {};
  const Subject subject(spec);
  const auto in = call_of(4, 12, spec.d_model);
  const auto order = at::argsort(normal_rows(1, 48, RandomStream(3)).view({-1}));
  EXPECT_TRUE(all_close(subject.forward(take(in, order)), subject.forward(in).index_select(0, order), kTolerance));

  const auto train = in_training(in);
  const auto want = subject.forward(train);
  bool draws = false;
  for (uint64_t seed = 90; seed < 100 && !draws; ++seed) {
    auto other = train;
    other.random = RandomStream(seed, "draws");
    draws = !torch::equal(subject.forward(other), want);
  }
  if (!draws) {
    EXPECT_TRUE(all_close(subject.forward(take(train, order)), want.index_select(0, order), kTolerance)) << "training";
  }
}

// --- (c) padding ----------------------------------------------------------------------------------------------------------

// `in` with padding where `from` is -1, and the rows of `in` that `from` names elsewhere. What stands in padding is loud.
GateInput padded(const GateInput& in, const torch::Tensor& from) {
  GateInput out = take(in, from.clamp_min(0));
  out.valid = from >= 0;
  const auto gap = ~out.valid;
  out.hidden.index_put_({gap}, 100 * normal_rows(gap.sum().item<int64_t>(), in.hidden.size(1), RandomStream(8)));
  for (torch::Tensor* x : {&out.sequence_ids, &out.previous_ids}) x->masked_fill_(gap, -1);
  out.tags.masked_fill_(gap, -7);
  out.token_ids.masked_fill_(gap, 0);
  return out;
}

struct PaddingAtTheEnd : EveryGate {};
INSTANTIATE_TEST_SUITE_P(Gates, PaddingAtTheEnd, ::testing::ValuesIn(gates_with("PaddingAtTheEnd")), id_of);

TEST_P(PaddingAtTheEnd, ChangesNoOutputAndNoLoss) {
  const Subject subject(spec);
  const auto rows = at::cat({torch::arange(48, torch::kInt64), torch::full({23}, -1, torch::kInt64)});
  for (const bool training : {false, true}) {
    auto in = call_of(4, 12, spec.d_model);
    if (training) in = in_training(in);
    MoETrace compact, wide;
    const auto want = subject.forward(in, &compact);
    EXPECT_TRUE(all_close(subject.forward(padded(in, rows), &wide).slice(0, 0, 48), want, kTolerance)) << training;
    EXPECT_TRUE(torch::equal(wide.stats.counts, compact.stats.counts)) << training;
    if (training) {
      EXPECT_TRUE(all_close(subject.aux_loss(wide), subject.aux_loss(compact), kTolerance));
    }
  }
}

struct PaddingInside : EveryGate {};
INSTANTIATE_TEST_SUITE_P(Gates, PaddingInside, ::testing::ValuesIn(gates_with("PaddingInside")), id_of);

TEST_P(PaddingInside, ChangesNoOutput) {
  if (spec.moe->capacity.group_size > 0) spec.moe->capacity.group_size = 10;
  const Subject subject(spec);
  const auto in = call_of(4, 12, spec.d_model);
  std::vector<torch::Tensor> parts;
  for (int64_t s = 0; s < 4; ++s) {
    parts.push_back(torch::arange(12 * s, 12 * s + 12, torch::kInt64));
    parts.push_back(torch::full({3 * s + 1}, -1, torch::kInt64));
  }
  const auto wide = padded(in, at::cat(parts));
  EXPECT_TRUE(all_close(subject.forward(wide).index({wide.valid}), subject.forward(in), kTolerance));
}

// --- (d) evaluation -------------------------------------------------------------------------------------------------------

struct Evaluation : EveryGate {};
INSTANTIATE_TEST_SUITE_P(Gates, Evaluation, ::testing::ValuesIn(gates_with("Evaluation")), id_of);

// THOR draws in evaluation as published; its other form of evaluation is the one that has this property.
TEST_P(Evaluation, RepeatsBitForBitWhateverSeedAndStep) {
  const auto in = call_of(4, 12, spec.d_model);
  const Subject published(spec);
  EXPECT_TRUE(torch::equal(published.forward(in), published.forward(in)));
  if (spec.moe->gate.kind == "random") set_option(spec.moe->gate, "eval_unit", "all");
  const Subject subject(spec);
  auto other = in;
  other.random = RandomStream(1234, "draws");
  other.step = 999;
  EXPECT_TRUE(torch::equal(subject.forward(other), subject.forward(in)));
}

// --- (e) groups -----------------------------------------------------------------------------------------------------------

struct Groups : EveryGate {};
INSTANTIATE_TEST_SUITE_P(Gates, Groups, ::testing::ValuesIn(gates_with("Groups")), id_of);

// A group is what competes for places: a sequence here.
TEST_P(Groups, AreRoutedAsIfTheyWereAlone) {
  spec.moe->capacity.group_size = 12;
  const Subject subject(spec);
  const auto in = call_of(4, 12, spec.d_model);
  MoETrace whole;
  const auto all = subject.forward(in, &whole);
  auto kept = torch::zeros_like(whole.stats.kept_counts);
  for (int64_t s = 0; s < 4; ++s) {
    auto part = take(in, torch::arange(12 * s, 12 * s + 12, torch::kInt64));
    part.first_token = 12 * s;
    MoETrace trace;
    EXPECT_TRUE(all_close(subject.forward(part, &trace), all.slice(0, 12 * s, 12 * s + 12), kTolerance)) << s;
    kept += trace.stats.kept_counts;
  }
  EXPECT_TRUE(torch::equal(kept, whole.stats.kept_counts));
}

// --- (f) threads ----------------------------------------------------------------------------------------------------------

struct Threads : EveryGate {};
INSTANTIATE_TEST_SUITE_P(Gates, Threads, ::testing::ValuesIn(gates_with("Threads")), id_of);

TEST_P(Threads, MakeTheSamePlan) {
  const Subject subject(spec);
  const int before = at::get_num_threads();
  for (const bool training : {false, true}) {
    auto in = call_of(6, 32, spec.d_model);
    if (training) in = in_training(in);
    MoETrace one, many;
    at::set_num_threads(1);
    const auto want = subject.forward(in, &one);
    at::set_num_threads(3);
    const auto got = subject.forward(in, &many);
    at::set_num_threads(before);
    EXPECT_TRUE(torch::equal(plan_of(many), plan_of(one))) << training;
    EXPECT_TRUE(all_close(got, want, 1e-6)) << training;
  }
}

// --- (g) all experts chosen -----------------------------------------------------------------------------------------------

// The gate with every expert chosen and weights that sum to 1, and the dense gate over the same blocks.
std::pair<BlockSpec, BlockSpec> chosen_and_dense(const BlockSpec& gate, int64_t experts) {
  if (gate.kind == "dense") return {gate, {"chain", {{"select", "all"}, {"weigh", "renormalise"}}}};
  if (gate.kind == "top_k") return {{"top_k", {{"k", experts}, {"renormalise", true}}}, "dense"};
  if (gate.kind != "chain") return {};
  BlockSpec all = gate, dense = gate, select = block_at(gate, "select", "top_k");
  int64_t null_experts = 0;
  if (const ConfigNode* node = gate.options.find("null_experts")) read_any(*node, "null_experts", null_experts);
  if (select.kind == "expert_choice") set_option(select, "capacity_factor", static_cast<double>(experts));
  else if (select.kind != "all") set_option(select, "k", experts + null_experts);
  if (select.kind == "group_limited") set_option(select, "keep", *select.options.find("groups"));
  set_option(all, "select", write_any(select));
  set_option(dense, "select", "all");
  for (BlockSpec* form : {&all, &dense}) {
    set_option(*form, "weigh", "renormalise");
    set_option(*form, "keep", "all");
  }
  return {all, dense};
}

struct AllChosen : EveryGate {};
INSTANTIATE_TEST_SUITE_P(Gates, AllChosen, ::testing::ValuesIn(gates_with("AllChosen")), id_of);

// By what training does where only training chooses a number of experts.
TEST_P(AllChosen, IsTheDenseGate) {
  const auto [all, dense] = chosen_and_dense(spec.moe->gate, spec.moe->num_experts);
  ASSERT_FALSE(all.kind.empty()) << "no form of gate '" << spec.moe->gate.kind << "' with all experts is known";
  spec.moe->capacity = {};
  spec.moe->losses = {};
  const bool training = block_at(all, "select", "top_k").kind == "strictly_balanced";
  auto in = call_of(4, 12, spec.d_model);
  if (training) in = in_training(in);
  spec.moe->gate = all;
  const auto got = Subject(spec).forward(in);
  spec.moe->gate = dense;
  EXPECT_TRUE(all_close(got, Subject(spec).forward(in), kTolerance));
}

// --- (h) causality --------------------------------------------------------------------------------------------------------

// Outputs before the token `t`, as they are and with another token there.
std::pair<torch::Tensor, torch::Tensor> before_and_after_a_flip(const Subject& subject, const GateInput& in, int64_t t) {
  auto flipped = in;
  for (torch::Tensor* x : {&flipped.hidden, &flipped.token_ids}) *x = x->clone();
  flipped.hidden[t] = -3 * flipped.hidden[t];
  flipped.token_ids[t] = (flipped.token_ids[t] + 1) % 257;
  return {subject.forward(in).slice(0, 0, t), subject.forward(flipped).slice(0, 0, t)};
}

// With several choices per token first choices are served before second ones, so that a later token may take the place of an
// earlier one (docs/limits.md): such recipes are asked without capacity.
void serve_in_order(ModelSpec& spec) {
  if (Subject(spec).layer().gate().experts_per_token() > 1) spec.moe->capacity = {};
}

struct CausalityTrait : EveryGate {};
INSTANTIATE_TEST_SUITE_P(Gates, CausalityTrait, ::testing::ValuesIn(gates_with("CausalityTrait")), id_of);

TEST_P(CausalityTrait, SaysWhetherEarlierTokensSeeALaterOne) {
  const bool looks_ahead = Subject(spec).layer().causality() == Causality::non_causal;
  if (!looks_ahead) serve_in_order(spec);
  int64_t differences = 0;
  for (uint64_t seed = 1; seed <= (looks_ahead ? 8 : 3); ++seed) {
    const Subject subject(spec, seed);
    for (const bool training : {false, true}) {
      auto in = call_of(1, 32, spec.d_model, seed);
      if (training) in = in_training(in);
      // The first place where a segment, the most that a gate may wait for, is not full.
      for (const int64_t t : {3, 17, 31}) {
        const auto [before, after] = before_and_after_a_flip(subject, in, t);
        differences += torch::equal(before, after) ? 0 : 1;
      }
    }
  }
  if (looks_ahead) EXPECT_GT(differences, 0);
  else EXPECT_EQ(differences, 0);
}

struct Decoder : EveryGate {};
INSTANTIATE_TEST_SUITE_P(Gates, Decoder, ::testing::ValuesIn(gates_with("Decoder")), id_of);

TEST_P(Decoder, SeesNoFutureOrIsRefused) {
  const bool looks_ahead = Subject(spec).layer().causality() == Causality::non_causal;
  spec.causal = true;
  spec.moe->allow_lookahead = false;
  if (looks_ahead) {
    testing::expect_error(ErrorKind::config, {"model.moe.", "the model is causal", "later tokens"}, [&] { (void)spec.resolved(); });
    return;
  }
  serve_in_order(spec);
  const Subject subject(spec);
  subject.model->eval();
  TokenBatch batch{call_of(2, 24, 1).token_ids.view({2, 24}), {}, {}, torch::tensor({0, 1}, torch::kInt64).unsqueeze(1).expand({2, 24})};
  const auto before = subject.model->forward(batch).hidden;
  batch.input_ids[0][15] = (batch.input_ids[0][15] + 1) % 257;
  const auto after = subject.model->forward(batch).hidden;
  EXPECT_TRUE(torch::equal(after[0].slice(0, 0, 15), before[0].slice(0, 0, 15)));
  EXPECT_FALSE(torch::equal(after[0].slice(0, 15), before[0].slice(0, 15)));
}

// --- (k) saved and loaded -------------------------------------------------------------------------------------------------

struct SavedAndLoaded : EveryGate {};
INSTANTIATE_TEST_SUITE_P(Gates, SavedAndLoaded, ::testing::ValuesIn(gates_with("SavedAndLoaded")), id_of);

TEST_P(SavedAndLoaded, MakesTheSamePlans) {
  const testing::TempDir dir;
  Subject subject(spec);
  for (int64_t step = 0; step < 30; ++step) {  // more than any stage or period of a recipe
    MoETrace trace;
    (void)subject.forward(in_training(call_of(4, 8, spec.d_model, 100 + static_cast<uint64_t>(step)), step), &trace);
    for (auto& [index, moe] : subject.model->moe_layers()) moe->gate().update(trace.stats);
  }
  save_checkpoint({subject.model, nullptr, {}, {}}, dir / "model");
  Subject loaded = subject;
  loaded.model = load_checkpoint(dir / "model").model;
  for (const bool training : {false, true}) {
    auto in = call_of(4, 12, spec.d_model);
    if (training) in = in_training(in, 7);
    MoETrace want, got;
    const auto y = subject.forward(in, &want);
    EXPECT_TRUE(torch::equal(loaded.forward(in, &got), y)) << training;
    EXPECT_TRUE(torch::equal(plan_of(got), plan_of(want))) << training;
    EXPECT_EQ(got.routing.loss_scale, want.routing.loss_scale) << training;
  }
  const auto buffers = loaded.model->named_buffers();
  for (const auto& item : subject.model->named_buffers()) {
    ASSERT_TRUE(buffers.contains(item.key())) << item.key();
    EXPECT_TRUE(torch::equal(buffers[item.key()], item.value())) << item.key();
  }
}

// --- the table of exemptions ----------------------------------------------------------------------------------------------

TEST(GateExemptions, NameAPropertyAGateAndAReason) {
  for (const auto& e : kExemptions) {
    EXPECT_TRUE(known_properties().count(e.property)) << e.property;
    EXPECT_GT(std::string(e.why).size(), 10u) << e.property << " " << e.id;
    int64_t found = 0;
    for (const auto& row : rows()) found += row.id == e.id && row.kind == "gate" ? 1 : 0;
    EXPECT_EQ(found, 1) << e.id;
  }
}

}  // namespace
}  // namespace switchyard::gate_properties_test
