// Parts that do not go together are refused in words when the recipe is read; what only the data can tell, by the first call.
#include "expect_error.h"
#include "switchyard/error.h"
#include "switchyard/expert_bank.h"
#include "systems/gate_exemptions.h"
#include "systems/gate_subject.h"

#include <algorithm>

namespace switchyard::composability_test {  // its own: tests of a folder compile as one unit
namespace {

using namespace systems;
using testing::expect_error;

// A recipe of recipes/gates that some keys spoil.
void refused(const char* id, std::vector<std::string> keys, std::initializer_list<std::string_view> words) {
  SCOPED_TRACE(id);
  for (auto& key : keys) key = "model." + key;
  expect_error(ErrorKind::config, words, [&] { (void)load_recipe(root() / "recipes/gates" / (std::string(id) + ".toml"), keys); });
}

void accepted(const char* id, std::vector<std::string> keys) {
  SCOPED_TRACE(id);
  for (auto& key : keys) key = "model." + key;
  EXPECT_NO_THROW((void)load_recipe(root() / "recipes/gates" / (std::string(id) + ".toml"), keys));
}

TEST(Composability, OneChoiceWithTheConstantWeightOneIsRefused) {
  refused("mixtral-gate", {"moe.gate.k=1"}, {"always has weight 1", "cannot train the router", "weigh = 'raw'"});
  refused("noisy-top-k", {"moe.gate.select.k=1"}, {"weigh = 'softmax_chosen'", "always has weight 1"});
  refused("hierarchical-moe", {"moe.gate.k_groups=1"}, {"hierarchical", "always has weight 1", "allow_constant_weight"});
  accepted("hierarchical-moe", {"moe.gate.k_groups=1", "moe.gate.allow_constant_weight=true"});
}

TEST(Composability, AGateThatLooksAheadInADecoderIsRefused) {
  refused("expert-choice", {"causal=true"}, {"later tokens", "the model is causal", "leaks the future", "allow_lookahead"});
  refused("batch-prioritized-routing", {"causal=true"}, {"priority = 'score'", "the model is causal"});
  accepted("expert-choice", {"causal=true", "moe.allow_lookahead=true"});
}

TEST(Composability, ALoadLossWithoutNoiseIsRefused) {
  refused("noisy-top-k", {"moe.gate.noise=none"}, {"noisy-top-k.toml", "do not go together", "loss load", "no learned noise", "learned_gaussian"});
  refused("hierarchical-moe", {"moe.losses=[{ kind = \"load\", weight = 0.1 }]"}, {"do not go together", "loss load"});
  accepted("v-moe-gate", {});  // the deviation of a fixed noise is given
}

TEST(Composability, LossesThatAGateCannotFormAreRefused) {
  refused("meo", {"moe.losses=[{ kind = \"gate_term\", term = \"entropy\", weight = 0.1 }]"}, {"no term 'entropy'", "importance, load"});
  refused("mixtral-gate", {"moe.losses=[{ kind = \"policy_gradient\", weight = 0.1 }]"}, {"policy_gradient", "does not draw one expert"});
  refused("soft-moe", {"moe.losses=[{ kind = \"load_balance\", weight = 0.1 }]"}, {"do not go together", "load_balance"});
}

TEST(Composability, GroupsThatDoNotDivideTheExpertsAreRefused) {
  refused("m6t-prototyping", {"moe.gate.select.groups=3"}, {"groups = 3", "num_experts = 8"});
  refused("m6t-prototyping", {"moe.gate.normalise.groups=3"}, {"groups = 3", "num_experts = 8"});
  refused("deepseek-v3-gate", {"moe.gate.select.groups=3"}, {"groups = 3", "divisor of num_experts = 16"});
  refused("hierarchical-moe", {"moe.gate.groups=3"}, {"groups = 3", "divisor of num_experts = 16"});
  refused("pangu-sigma-rre", {"moe.gate.groups=3"}, {"groups = 3", "divisor of num_experts = 10"});
  refused("deepseekmoe-balance", {"moe.losses=[{ kind = \"device_balance\", devices = 3, weight = 0.05 }]"}, {"device_balance", "3", "16"});
  refused("deepseek-v2-gate", {"moe.capacity.devices=3"}, {"model.moe.capacity.devices = 3", "num_experts = 16"});
}

TEST(Composability, ExpertsThatChooseMoreTokensThanThereAreAreRefused) {
  refused("expert-choice", {"moe.gate.select.capacity_factor=8.5"}, {"capacity_factor = 8.5", "at most num_experts = 8"});
}

TEST(Composability, BinaryCodesThatNoExpertHasNeedTheirTerm) {
  refused("dselect-k", {"moe.num_experts=6"}, {"dselect-k.toml", "num_experts = 6", "term 'reach'", "gate_term"});
  refused("dselect-k", {"moe.num_experts=6", "moe.losses=[{ kind = \"gate_term\", term = \"reach\", weight = 0.0 }]"}, {"term 'reach'"});
  accepted("dselect-k", {"moe.num_experts=6", "moe.losses=[{ kind = \"gate_term\", term = \"reach\", weight = 0.1 }]"});
  for (const char* experts : {"moe.num_experts=2", "moe.num_experts=8", "moe.num_experts=16"}) accepted("dselect-k", {experts});
}

TEST(Composability, BlocksThatExpectAnotherShapeAreRefused) {
  refused("gshard", {"moe.gate.select.k=3"}, {"do not go together", "random_second", "two experts"});
  refused("expert-choice", {"moe.gate.weigh=softmax_chosen"}, {"do not go together", "softmax_chosen"});
  refused("expert-choice", {"moe.gate.combine=parameters"}, {"do not go together", "combine = 'parameters'"});
  refused("expert-choice", {"moe.gate.pool=sequence"}, {"do not go together", "pool = 'token'"});
  refused("adamoe", {"moe.losses=[{ kind = \"load_balance\", weight = 0.1 }]"}, {"do not go together", "16 choices for 8 experts", "null_balance"});
  refused("adamoe", {"moe.gate.balance=bias"}, {"do not go together", "null_experts"});
  refused("mixtral-gate", {"moe.capacity.factor=1.0", "moe.capacity.overflow=next_choice"}, {"do not go together", "one expert per token"});
  refused("switch", {"moe.capacity.overflow=next_choice", "moe.capacity.tries=9"}, {"tries = 9", "num_experts = 8"});
  refused("hash-layer", {"moe.capacity.factor=1.0", "moe.capacity.devices=2", "moe.allow_lookahead=true"}, {"do not go together", "probabilities"});
}

// Selection with a bias never reaches the weights: what the catalogue warns of cannot be said in a recipe.
TEST(Composability, ABiasOnTheRankingDoesNotReachTheWeights) {
  const auto systems = rows();
  const auto v3 = std::find_if(systems.begin(), systems.end(), [](const System& s) { return s.id == "deepseek-v3-gate"; });
  for (const char* normalise : {"softmax", "sigmoid"})
    for (const char* weigh : {"renormalise", "softmax_chosen"}) {
      ModelSpec spec = small_spec_of(*v3);
      *spec.moe->gate.options.find("normalise") = normalise;
      *spec.moe->gate.options.find("weigh") = weigh;
      const Subject subject(spec);
      auto bias = subject.layer().gate().named_buffers()["balance.bias"];
      const auto in = call_of(1, 12, spec.d_model);
      bias.zero_();
      const auto plain = std::get<TokenChoice>(subject.layer().gate().route(in).choice);
      bias.fill_(5);  // the same for all: nobody chooses otherwise
      const auto biased = std::get<TokenChoice>(subject.layer().gate().route(in).choice);
      EXPECT_TRUE(torch::equal(biased.expert_ids, plain.expert_ids));
      EXPECT_TRUE(torch::equal(biased.weights, plain.weights)) << normalise << ", " << weigh;
    }
}

// The number of tokens need not be a multiple of the number of experts: places are rounded up instead of tokens padded.
TEST(Composability, AnAssignmentOfAnyNumberOfTokensIsBalanced) {
  const auto systems = rows();
  const auto base = std::find_if(systems.begin(), systems.end(), [](const System& s) { return s.id == "base-layer"; });
  for (const char* solver : {"exact", "auction"}) {
    ModelSpec spec = small_spec_of(*base);
    *spec.moe->gate.options.find("select")->find("solver") = solver;
    MoETrace trace;
    (void)Subject(spec).forward(in_training(call_of(1, 29, spec.d_model)), &trace);  // 29 = 3 * 8 + 5
    EXPECT_EQ(trace.stats.counts.sum().item<int64_t>(), 29) << solver;
    EXPECT_LE(trace.stats.counts.max().item<int64_t>(), 4) << solver;
  }
}

// Experts whose parameters mean nothing on average: known by the first call, for a bank is too large to be made for a check.
TEST(Composability, ExpertsThatCannotBeMergedAreRefusedByTheFirstCall) {
  struct Tables final : ExpertBank {
    torch::Tensor forward(const torch::Tensor& rows, const torch::Tensor&, const RowContext&) override { return rows; }
    [[nodiscard]] int64_t parameters_per_expert() const override { return 0; }
    [[nodiscard]] double flops_per_row() const override { return 0; }
    [[nodiscard]] torch::Tensor flat_weights() const override { return torch::zeros({1, 1}); }
  };
  auto entry = expert_registry().all().front();
  entry.name = "tables_of_the_test";
  entry.make = [](const ConfigNode&, const BankShape&) -> std::shared_ptr<ExpertBank> { return std::make_shared<Tables>(); };
  expert_registry().add(entry);
  MoELayer layer({.d_model = 4, .d_expert = 1, .num_experts = 2, .gate = {"chain", {{"select", "all"}, {"weigh", "raw"}, {"combine", "parameters"}}},
                  .experts = "tables_of_the_test"});
  expect_error(ErrorKind::unsupported, {"cannot be merged", "no meaningful average"}, [&] { (void)layer.forward(torch::ones({3, 4}), {}); });
}

// --- what a call does not bring along ---------------------------------------------------------------------------------------

struct MissingInputs : ::testing::TestWithParam<System> {};
INSTANTIATE_TEST_SUITE_P(Gates, MissingInputs, ::testing::ValuesIn(gates_with("MissingInputs")), id_of);

// A gate works without it, or says its name.
TEST_P(MissingInputs, AreNamed) {
  const ModelSpec spec = small_spec_of(GetParam());
  const Subject subject(spec);
  const auto whole = call_of(2, 6, spec.d_model);
  const std::pair<const char*, torch::Tensor GateInput::*> inputs[] = {
      {"tags", &GateInput::tags}, {"token_ids", &GateInput::token_ids}, {"sequence_ids", &GateInput::sequence_ids},
      {"positions", &GateInput::positions}, {"previous_ids", &GateInput::previous_ids}};
  for (const bool training : {false, true})
    for (const auto& [name, member] : inputs) {
      auto in = training ? in_training(whole) : whole;
      in.*member = torch::Tensor();
      try {
        MoETrace trace;
        (void)subject.forward(in, &trace);
        if (training) (void)subject.aux_loss(trace);
      } catch (const Error& error) {
        EXPECT_EQ(name_of(error.kind()), name_of(ErrorKind::usage)) << error.what();
        EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << "'" << name << "' is not in: " << error.what();
      }
    }
}

}  // namespace
}  // namespace switchyard::composability_test
