// Calls at the edge, asked of every gate recipe of systems.tsv: no token, one token, padding alone, one expert, equal scores,
// and values that are no numbers.
#include "support/moe_oracle.h"
#include "switchyard/error.h"
#include "systems/gate_exemptions.h"
#include "systems/gate_subject.h"

#include <limits>

namespace switchyard::gate_edges_test {  // its own: tests of a folder compile as one unit
namespace {

using namespace systems;

struct EveryGate : ::testing::TestWithParam<System> {
  ModelSpec spec = small_spec_of(GetParam());
};

bool finite(const torch::Tensor& x) { return x.isfinite().all().item<bool>(); }

// Output of a call in both modes and losses in training, forward and backward.
void expect_finite(const Subject& subject, const GateInput& call) {
  for (const bool training : {false, true}) {
    subject.model->zero_grad();
    const auto in = training ? in_training(call) : call;
    MoETrace trace;
    const auto y = subject.forward(in, &trace);
    EXPECT_EQ(y.sizes(), in.hidden.sizes());
    EXPECT_TRUE(finite(y)) << training;
    auto all = y.square().sum();
    if (training) {
      const auto loss = subject.aux_loss(trace);
      EXPECT_TRUE(finite(loss)) << "losses";
      all = all + loss;
    }
    if (all.requires_grad()) all.backward();
    for (const auto& item : subject.layer().named_parameters()) {
      EXPECT_TRUE(!item.value().grad().defined() || finite(item.value().grad())) << item.key() << ", training = " << training;
    }
  }
}

struct FewTokens : EveryGate {};
INSTANTIATE_TEST_SUITE_P(Gates, FewTokens, ::testing::ValuesIn(gates_with("FewTokens")), id_of);

TEST_P(FewTokens, NoneOneAndPaddingAloneAreCallsToo) {
  const Subject subject(spec);
  const auto in = call_of(1, 4, spec.d_model);
  for (const int64_t tokens : {0, 1}) {
    SCOPED_TRACE(tokens);
    expect_finite(subject, take(in, torch::arange(tokens, torch::kInt64)));
  }
  auto padding = in;
  padding.valid = torch::zeros({4}, torch::kBool);
  padding.sequence_ids = padding.previous_ids = padding.tags = torch::full({4}, -1, torch::kInt64);
  SCOPED_TRACE("padding");
  expect_finite(subject, padding);
}

// Numbers of the recipe that name experts, as far as one expert allows.
void give_one_expert(MoESpec& m) {
  m.num_experts = 1;
  const auto to_one = [](const std::string& key, int64_t value) {
    for (const char* name : {"k", "groups", "k_groups", "keep", "best", "start", "tables", "tries", "devices"})
      if (key == name) return std::min<int64_t>(value, 1);
    return value;
  };
  change_integers(m.gate.options, to_one);
  for (auto& loss : m.losses) change_integers(loss.options, to_one);
  // One merged expert of one has no balance, and its gate forms no such terms.
  const ConfigNode* combine = m.gate.options.find("combine");
  if (combine && combine->string() && *combine->string() == "parameters") m.losses.clear();
  m.capacity.devices = std::min<int64_t>(m.capacity.devices, 1);
  auto& options = *m.gate.options.table();
  const auto set = [&](const char* key, const ConfigNode& value) {
    if (ConfigNode* there = m.gate.options.find(key)) *there = value;
    else options.emplace_back(key, value);
  };
  if (m.gate.kind == "chain") {
    set("allow_constant_weight", true);
    set("keep", "all");
    if (ConfigNode* select = m.gate.options.find("select"); select && select->find("capacity_factor")) *select->find("capacity_factor") = 1.0;
  }
  if (m.gate.kind == "top_k") set("renormalise", false);
  if (m.gate.kind == "hierarchical") set("allow_constant_weight", true);
  if (m.gate.kind == "by_tag") {
    set("map", ConfigNode::Array{0});
    set("reroute", 0.0);
  }
}

struct OneExpert : EveryGate {};
INSTANTIATE_TEST_SUITE_P(Gates, OneExpert, ::testing::ValuesIn(gates_with("OneExpert")), id_of);

TEST_P(OneExpert, IsALayerLikeAnyOther) {
  // The recipe as it stands may ask for more than one: then it is refused in words, before anything is computed.
  auto refused = spec;
  refused.moe->num_experts = 1;
  try {
    (void)refused.resolved();
  } catch (const Error& error) {
    EXPECT_EQ(name_of(error.kind()), name_of(ErrorKind::config)) << error.what();
    EXPECT_NE(std::string(error.what()).find("1"), std::string::npos) << error.what();
  }
  give_one_expert(*spec.moe);
  const Subject subject(spec);
  auto in = call_of(3, 8, spec.d_model);
  in.tags = torch::zeros_like(in.tags);
  expect_finite(subject, in);
  MoETrace trace;
  (void)subject.forward(in, &trace);
  if (const auto* choice = std::get_if<TokenChoice>(&trace.routing.choice)) {
    EXPECT_LE(choice->expert_ids.max().item<int64_t>(), 0);
  }
}

struct EqualScores : EveryGate {};
INSTANTIATE_TEST_SUITE_P(Gates, EqualScores, ::testing::ValuesIn(gates_with("EqualScores")), id_of);

// A router of zeros scores all experts alike: ties go to the lower id, the same for every token.
TEST_P(EqualScores, GoToTheLowerIds) {
  const Subject subject(spec);
  {
    const c10::NoGradGuard no_grad;
    for (auto& p : subject.layer().gate().parameters())
      if (p.dim() > 1) p.zero_();
    for (auto& item : subject.layer().gate().named_buffers())
      if (item.key() == "balance.bias") item.value().zero_();
  }
  const auto in = call_of(3, 8, spec.d_model);
  expect_finite(subject, in);
  MoETrace trace;
  (void)subject.forward(in, &trace);
  const auto* choice = std::get_if<TokenChoice>(&trace.routing.choice);
  if (!choice || !trace.routing.scores.logits.defined()) return;  // nobody is chosen by score
  const auto z = trace.routing.scores.logits.detach();
  if (!torch::equal(z, z.select(1, 0).unsqueeze(1).expand_as(z))) return;  // a learned offset per expert, or experts asleep
  const auto& ids = choice->expert_ids;
  EXPECT_TRUE(torch::equal(ids, ids.slice(0, 0, 1).expand_as(ids)));
  EXPECT_TRUE(torch::equal(ids, std::get<0>(at::sort(ids, 1)))) << ids[0];
}

const double kInf = std::numeric_limits<double>::infinity(), kNan = std::numeric_limits<double>::quiet_NaN();

// The middle token of the middle one of three sequences is no token.
GateInput broken(const GateInput& in, double value) {
  auto out = in;
  out.hidden = in.hidden.clone();
  out.hidden[12].fill_(value);
  return out;
}

struct NotANumber : EveryGate {};
INSTANTIATE_TEST_SUITE_P(Gates, NotANumber, ::testing::ValuesIn(gates_with("NotANumber")), id_of);

TEST_P(NotANumber, StaysInItsSequence) {
  const c10::NoGradGuard no_grad;
  const Subject subject(spec);
  const auto others = at::cat({torch::arange(0, 8, torch::kInt64), torch::arange(16, 24, torch::kInt64)});
  for (const double value : {kNan, kInf, -kInf})
    for (const bool training : {false, true}) {
      const auto call = call_of(3, 8, spec.d_model);
      const auto in = broken(training ? in_training(call) : call, value);
      MoETrace trace;
      const auto y = subject.forward(in, &trace);
      EXPECT_TRUE(finite(y.index_select(0, others))) << value << ", training = " << training;
    }
}

struct NotANumberAlone : EveryGate {};
INSTANTIATE_TEST_SUITE_P(Gates, NotANumberAlone, ::testing::ValuesIn(gates_with("NotANumberAlone")), id_of);

// Every other token is routed as ever, bit for bit where it does not compete for places; no weight is NaN.
TEST_P(NotANumberAlone, TouchesNoOtherToken) {
  const c10::NoGradGuard no_grad;
  const Subject subject(spec);
  const auto others = at::cat({torch::arange(0, 12, torch::kInt64), torch::arange(13, 24, torch::kInt64)});
  for (const double value : {kNan, kInf, -kInf})
    for (const bool training : {false, true}) {
      const auto call = call_of(3, 8, spec.d_model);
      const auto in = training ? in_training(call) : call;
      MoETrace trace;
      const auto y = subject.forward(broken(in, value), &trace).index_select(0, others);
      EXPECT_TRUE(finite(y)) << value << ", training = " << training;
      EXPECT_FALSE(weights_of(trace.routing).isnan().any().item<bool>()) << value << ", training = " << training;
      if (subject.layer().causality() == Causality::strict) {
        EXPECT_TRUE(torch::equal(y, subject.forward(in).index_select(0, others))) << value << ", training = " << training;
      }
    }
}

struct BrokenRouter : EveryGate {};
INSTANTIATE_TEST_SUITE_P(Gates, BrokenRouter, ::testing::ValuesIn(gates_with("BrokenRouter")), id_of);

// One number of each router matrix is none: plans keep their shape, weights are numbers, and so is the output.
TEST_P(BrokenRouter, GivesNoWeightThatIsNaN) {
  const c10::NoGradGuard no_grad;
  for (const double value : {kNan, kInf, -kInf}) {
    const Subject subject(spec);
    for (auto& p : subject.layer().gate().parameters())
      if (p.dim() > 1) p.view({-1})[0] = value;
    for (const bool training : {false, true}) {
      const auto call = call_of(3, 8, spec.d_model);
      MoETrace trace;
      const auto y = subject.forward(training ? in_training(call) : call, &trace);
      EXPECT_FALSE(weights_of(trace.routing).isnan().any().item<bool>()) << value << ", training = " << training;
      EXPECT_TRUE(finite(y)) << value << ", training = " << training;
    }
  }
}

}  // namespace
}  // namespace switchyard::gate_edges_test
