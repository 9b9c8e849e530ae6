// compare: recipes under one budget, resumed when interrupted, and gates on the routing bench.
#include "run_program.h"

#include <nlohmann/json.hpp>

#include <cmath>
#include <fstream>

namespace switchyard::compare_verb_test {
namespace {

using nlohmann::json;
using testing::content_of;
using testing::Finished;
using testing::run_program;
using testing::TempDir;

const char* const kDense = R"([data]
path = "corpus.txt"
[tokenizer]
kind = "byte"
[model]
d_model = 32
num_layers = 2
num_heads = 2
d_ff = 32
max_positions = 64
[train]
steps = 1000
batch_size = 4
seq_len = 32
log_every = 1
eval_every = 0
schedule = { warmup_steps = 2 }
)";
const char* const kSparse = R"(
[model.moe]
num_experts = 4
losses = [{ kind = "load_balance", weight = 0.01 }]
)";

class CompareVerb : public ::testing::Test {
 protected:
  void SetUp() override {
    std::ofstream text(dir_ / "corpus.txt");
    for (int i = 0; i < 600; ++i) text << "the " << (i % 7 == 0 ? "dog" : "cat") << " number " << i << " sat on the mat.\n";
    std::ofstream(dir_ / "plain.toml") << kDense;
    std::ofstream(dir_ / "sparse.toml") << kDense << kSparse;
  }
  [[nodiscard]] Finished call(const std::string& words, const std::string& around = "%") const {
    return run_program(words, "cd '" + dir_.path().string() + "' && export OMP_NUM_THREADS=1 && " + around);
  }
  [[nodiscard]] json result() const { return json::parse(content_of(dir_ / "out/compare.json")); }
  TempDir dir_;
};

TEST_F(CompareVerb, TrainsEverySeedAndMeasuresFromTheRunFolders) {
  const Finished r = call("compare sparse.toml plain.toml --seeds 2 --budget steps=12 --out out");
  ASSERT_EQ(r.code, 0) << r.err;
  for (const char* run : {"sparse-1", "sparse-2", "plain-1", "plain-2"}) EXPECT_TRUE(std::filesystem::exists(dir_ / "out" / run / "checkpoints/last")) << run;
  SW_EXPECT_HAS(r.out, "loss");
  SW_EXPECT_HAS(r.out, "load CV/floor");
  SW_EXPECT_HAS(r.out, "x dense");
  SW_EXPECT_HAS(r.out, "out/compare.html");
  SW_EXPECT_HAS(content_of(dir_ / "out/compare.html"), "Routing, quality and cost");

  const json rows = result().at("recipes");
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].at("name"), "sparse");
  const auto final_loss = [&](const char* run) { return json::parse(content_of(dir_ / "out" / run / "run.json")).at("final").at("loss").get<double>(); };
  EXPECT_NEAR(rows[0].at("loss").at("mean").get<double>(), (final_loss("sparse-1") + final_loss("sparse-2")) / 2, 1e-9);
  EXPECT_NEAR(rows[1].at("step_over_dense").at("mean").get<double>(), 1, 1e-9);
  EXPECT_TRUE(rows[1].at("load_over_floor").at("mean").is_null()) << "a dense model has no load";

  // Fluctuation, from the two files that say who was first.
  const json change = json::parse(content_of(dir_ / "out/sparse-1/routing_change.json"));
  EXPECT_EQ(change.at("from_step"), 6);
  EXPECT_EQ(change.at("to_step"), 12);
  double sum = 0;
  for (const auto& layer : change.at("layers")) sum += layer.at("changed").get<double>();
  EXPECT_NEAR(rows[0].at("fluctuation").at("values")[0].get<double>(), sum / 2, 1e-12);
  EXPECT_FALSE(std::filesystem::exists(dir_ / "out/plain-1/routing_change.json"));
}

// What was interrupted goes on, what is finished stays, and the curve is that of a run that was not interrupted.
TEST_F(CompareVerb, GoesOnWhereItWasInterrupted) {
  const std::string words = "compare sparse.toml --seeds 2 --budget steps=300 --out out --set train.log_every=1";
  const Finished stopped = call(words, "{ % & pid=$!; while kill -0 $pid && ! grep -q '\"step\":20' out/sparse-1/metrics.jsonl 2> /dev/null; do sleep 0.02; done; "
                                       "kill -INT $pid; wait $pid; }");
  ASSERT_EQ(stopped.code, 130) << stopped.err;
  SW_EXPECT_HAS(stopped.err, "the same command goes on");
  EXPECT_FALSE(std::filesystem::exists(dir_ / "out/compare.json"));
  const Finished resumed = call(words);
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  const auto trained = std::filesystem::last_write_time(dir_ / "out/sparse-1/metrics.jsonl");
  ASSERT_EQ(call(words).code, 0);
  EXPECT_EQ(std::filesystem::last_write_time(dir_ / "out/sparse-1/metrics.jsonl"), trained) << "finished runs stay as they are";
  const Finished whole = call("train sparse.toml --out whole --quiet --set train.steps=300 --set seed=1");
  ASSERT_EQ(whole.code, 0) << whole.err;
  EXPECT_EQ(json::parse(content_of(dir_ / "whole/run.json")).at("final").at("loss"), json::parse(content_of(dir_ / "out/sparse-1/run.json")).at("final").at("loss"));
}

TEST_F(CompareVerb, ABudgetOfFlopsGivesTheCheaperRecipeMoreSteps) {
  ASSERT_EQ(call("compare plain.toml sparse.toml --seeds 1 --budget flops=2e8 --out out --quiet").code, 0);
  const json steps = json::parse(content_of(dir_ / "out/plan.json")).at("steps");
  EXPECT_GT(steps.at("plain").get<int64_t>(), steps.at("sparse").get<int64_t>()) << steps;
  const Finished other = call("compare plain.toml sparse.toml --seeds 1 --budget steps=3 --out out");
  EXPECT_EQ(other.code, 2);
  SW_EXPECT_HAS(other.err, "flops=2e8");
}

TEST_F(CompareVerb, RefusesWhatItCannotCompare) {
  EXPECT_EQ(call("compare plain.toml").code, 2);
  EXPECT_EQ(call("compare plain.toml --budget epochs=3").code, 2);
  EXPECT_EQ(call("compare plain.toml plain.toml --budget steps=3").code, 2);
  EXPECT_EQ(call("compare --task clusters plain.toml").code, 3) << "no [model.moe]";
  EXPECT_EQ(call("compare --task doors plain.toml").code, 2);
  EXPECT_EQ(call("compare --task rules plain.toml").code, 2) << "no --rules";
}

// A run that starts from a model begins where that model ended.
TEST_F(CompareVerb, RunsStartFromAModel) {
  ASSERT_EQ(call("compare plain.toml --seeds 1 --budget steps=60 --out base --quiet").code, 0);
  ASSERT_EQ(call("compare plain.toml --seeds 2 --budget steps=1 --init base/plain-1 --out out --quiet --set train.optimizer.lr=1e-9").code, 0);
  const double base = json::parse(content_of(dir_ / "base/plain-1/run.json")).at("final").at("loss").get<double>();
  for (const double loss : result().at("recipes")[0].at("loss").at("values")) EXPECT_NEAR(loss, base, 1e-3);
  ASSERT_EQ(call("compare plain.toml --seeds 1 --budget steps=1 --out scratch --quiet").code, 0);
  EXPECT_GT(json::parse(content_of(dir_ / "scratch/plain-1/run.json")).at("final").at("loss").get<double>(), base + 0.5);
}

// Losses of the next token and of masked ones are not put side by side.
TEST_F(CompareVerb, ComparesOneObjectiveAtATime) {
  std::string masked = kDense;
  masked.insert(masked.find("max_positions"), "causal = false\n");
  std::ofstream(dir_ / "masked.toml") << masked;
  const Finished both = call("compare plain.toml masked.toml --budget steps=2 --seeds 1 --out out");
  EXPECT_EQ(both.code, 2);
  SW_EXPECT_HAS(both.err, "--objective next");
  ASSERT_EQ(call("compare plain.toml masked.toml --objective masked --budget steps=2 --seeds 1 --out out --quiet --title Masks").code, 0);
  ASSERT_EQ(result().at("recipes").size(), 1u);
  EXPECT_EQ(result().at("recipes")[0].at("name"), "masked");
  EXPECT_EQ(result().at("title"), "Masks");
  EXPECT_EQ(call("compare plain.toml --objective masked --budget steps=2").code, 2) << "none is left";
}

// A rule that changes nothing measures what eval measures; one that changes the model measures another thing.
TEST_F(CompareVerb, MeasuresRulesOfInferenceOnTrainedModels) {
  ASSERT_EQ(call("compare sparse.toml --seeds 2 --budget steps=12 --out out --quiet").code, 0);
  std::ofstream(dir_ / "rules.toml") << "[[rule]]\nname = \"as trained\"\n[[rule]]\nname = \"all\"\nset = [\"moe.gate.k = 4\"]\n"
                                        "[[rule]]\nname = \"contrast\"\ncontrast = 0.5\n";
  const Finished r = call("compare --task rules out/sparse-1 out/sparse-2 --rules rules.toml --json --out rules");
  ASSERT_EQ(r.code, 0) << r.err;
  const json rows = json::parse(r.out).at("recipes");
  ASSERT_EQ(rows.size(), 3u);
  for (int seed = 1; seed <= 2; ++seed) {
    const auto measured = [&](const std::string& how) { return json::parse(call("eval out/sparse-" + std::to_string(seed) + how + " --json").out); };
    const char* const how[] = {"", " --set moe.gate.k=4", " --contrast 0.5"};
    for (size_t rule = 0; rule < 3; ++rule) {
      const json got = measured(how[rule]);
      EXPECT_NEAR(rows[rule].at("loss").at("values")[seed - 1].get<double>(), got.at("loss").get<double>(), 1e-9) << rule;
      EXPECT_NEAR(rows[rule].at("accuracy").at("values")[seed - 1].get<double>(), got.at("accuracy").get<double>(), 1e-12) << rule;
    }
  }
  EXPECT_NE(rows[0].at("loss").at("mean"), rows[1].at("loss").at("mean"));
  EXPECT_NE(rows[0].at("loss").at("mean"), rows[2].at("loss").at("mean"));
  std::ofstream(dir_ / "wrong.toml") << "[[rule]]\nname = \"x\"\nsett = []\n";
  const Finished wrong = call("compare --task rules out/sparse-1 --rules wrong.toml");
  EXPECT_EQ(wrong.code, 3);
  SW_EXPECT_HAS(wrong.err, "did you mean 'set'");
}

TEST_F(CompareVerb, PutsGatesOnTheRoutingBench) {
  std::ofstream(dir_ / "free.toml") << kDense << "[model.moe]\ngate = { kind = \"top_k\", k = 1, renormalise = false }\n";
  std::ofstream(dir_ / "even.toml") << kDense << "[model.moe]\ngate = { kind = \"top_k\", k = 1, renormalise = false }\nlosses = [{ kind = \"load_balance\", weight = 1.0 }]\n";
  const Finished r = call("compare --task clusters free.toml even.toml plain.toml --seeds 2 --steps 200 --json --out out");
  ASSERT_EQ(r.code, 0) << r.err;
  SW_EXPECT_HAS(r.err, "plain: left out");
  const json rows = json::parse(r.out).at("recipes");
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_GT(rows[0].at("load_cv").at("mean").get<double>(), 2 * rows[1].at("load_cv").at("mean").get<double>());
  EXPECT_EQ(rows[0].at("load_cv").at("values").size(), 2u);
  EXPECT_EQ(result().at("recipes"), rows);
  SW_EXPECT_HAS(content_of(dir_ / "out/compare.html"), "routing bench");
}

}  // namespace
}  // namespace switchyard::compare_verb_test
