#include "report/run_files.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "report/markup_check.h"
#include "report/metrics_file.h"
#include "switchyard/error.h"

namespace switchyard::report {
namespace {

RunFiles metrics(const std::string& text) {
  RunFiles run;
  parse_metrics(text, "m.jsonl", run);
  return run;
}

template <class Action>
std::string error_of(Action action, ErrorKind kind = ErrorKind::checkpoint) {
  try {
    action();
  } catch (const Error& e) {
    EXPECT_EQ(name_of(e.kind()), name_of(kind));
    return e.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

std::string metrics_error(const std::string& text) {
  return error_of([&] { (void)metrics(text); });
}
std::string trace_error(const std::string& text) {
  return error_of([&] { (void)parse_trace(text, "trace.json"); });
}

TEST(Metrics, RecordsOfEveryKindAreRead) {
  const RunFiles run = metrics(
      R"({"kind":"train","step":10,"loss":3.25,"lr":1e-3,"tokens":40960,"load_cv":[0.5,null],"load":[[0.25,0.75]],"aux":{"router_z":{"raw":4,"weighted":0.004}}})"
      "\n\n"
      R"({"kind":"eval","step":10,"loss":2.5,"loss_se":0.01})"
      "\n"
      R"({"kind":"event","step":10,"what":"best","seconds":1.5})"
      "\n"
      R"({"kind":"weather","step":10})"
      "\n");
  ASSERT_EQ(run.train.size(), 1u);
  EXPECT_EQ(run.train[0].step, 10);
  EXPECT_EQ(run.train[0].loss, 3.25);
  EXPECT_TRUE(std::isnan(run.train[0].grad_norm));
  EXPECT_TRUE(std::isnan(run.train[0].load_cv[1]));
  EXPECT_EQ(run.train[0].load[0][1], 0.75);
  EXPECT_EQ(run.train[0].aux[0].name, "router_z");
  ASSERT_EQ(run.evals.size(), 1u);
  EXPECT_TRUE(std::isnan(run.evals[0].perplexity));
  ASSERT_EQ(run.events.size(), 1u);
  EXPECT_EQ(run.events[0].what, "best");
}

TEST(Metrics, ErrorsNameFileLineAndKey) {
  const std::string good = R"({"kind":"train","step":1,"loss":1})" "\n";
  EXPECT_TRUE(contains(metrics_error(good + "{\"kind\":\"train\",}\n" + good), "m.jsonl:2: not valid JSON"));
  EXPECT_TRUE(contains(metrics_error(good + "[1]\n"), "m.jsonl:2: found array, expected an object"));
  EXPECT_TRUE(contains(metrics_error(R"({"kind":"train","step":1,"loss":"low"})" "\n"), "m.jsonl:1: loss: found string \"low\", expected a number"));
  EXPECT_TRUE(contains(metrics_error(R"({"kind":"train","step":1,"load":[[0.5,"x"]]})" "\n"), "m.jsonl:1: load[0][1]: found string"));
  EXPECT_TRUE(contains(metrics_error(R"({"kind":"train","step":-1})" "\n"), "m.jsonl:1: step: found number -1"));
  EXPECT_TRUE(contains(metrics_error(R"({"kind":"eval","loss":1})" "\n"), "m.jsonl:1: no \"step\""));
  EXPECT_TRUE(contains(metrics_error(R"({"step":1})" "\n"), "m.jsonl:1: no \"kind\""));
}

TEST(Metrics, AnUnfinishedLastLineIsLeftOutWithANote) {
  const RunFiles run = metrics(R"({"kind":"train","step":1,"loss":1})" "\n" R"({"kind":"train","st)");
  EXPECT_EQ(run.train.size(), 1u);
  ASSERT_EQ(run.notes.size(), 1u);
  EXPECT_TRUE(contains(run.notes[0], "Line 2"));
}

// Steps 3 and 4 are lost with the process; the resumed one counts its seconds from zero.
TEST(Metrics, StepsRunAgainReplaceTheEarlierOnesAndTheClockGoesOn) {
  std::string text;
  const auto train = [&](int step, double loss, double seconds) {
    text += "{\"kind\":\"train\",\"step\":" + std::to_string(step) + ",\"loss\":" + std::to_string(loss) + ",\"seconds\":" + std::to_string(seconds) + "}\n";
  };
  for (int step = 1; step <= 4; ++step) train(step, 9, 10.0 * step);
  text += "{\"kind\":\"eval\",\"step\":4,\"loss\":9}\n{\"kind\":\"event\",\"step\":2,\"what\":\"resume\",\"seconds\":0}\n";
  for (int step = 3; step <= 5; ++step) train(step, 1, 10.0 * (step - 2));
  const RunFiles run = metrics(text);
  ASSERT_EQ(run.train.size(), 5u);
  for (int step = 1; step <= 5; ++step) {
    const auto& r = run.train[static_cast<size_t>(step - 1)];
    EXPECT_EQ(r.step, step);
    EXPECT_EQ(r.loss, step <= 2 ? 9 : 1);
    EXPECT_NEAR(r.seconds, 10.0 * step, 1e-9);
  }
  EXPECT_TRUE(run.evals.empty());
  EXPECT_TRUE(contains(run.notes.at(0), "2 train records were replaced"));
}

TEST(Metrics, AClockThatIsKeptAcrossAResumeIsNotShifted) {
  const RunFiles run = metrics(
      R"({"kind":"train","step":1,"seconds":10})" "\n" R"({"kind":"train","step":2,"seconds":20})" "\n"
      R"({"kind":"event","step":1,"what":"resume","seconds":10})" "\n" R"({"kind":"train","step":2,"seconds":21})" "\n");
  ASSERT_EQ(run.train.size(), 2u);
  EXPECT_EQ(run.train[1].seconds, 21);
}

TEST(RunInfo, FactsKeepTheirOrderAndNestedOnesAreDotted) {
  const RunInfo info = parse_run_info(R"({"name":"a","seed":3,"dataset":{"z":1,"a":{"b":"c"}},"final":{"loss":2.5}})", "run.json");
  EXPECT_EQ(info.seed, "3");
  EXPECT_EQ(info.dataset, (Facts{{"z", "1"}, {"a.b", "c"}}));
  EXPECT_EQ(info.final_number("loss"), 2.5);
  EXPECT_TRUE(std::isnan(info.final_number("seconds")));
  EXPECT_EQ(info.threads, -1);
}

TEST(RunInfo, ErrorsNameFileAndKey) {
  EXPECT_TRUE(contains(error_of([] { (void)parse_run_info("{\n\"name\": }", "run.json"); }), "run.json:2: not valid JSON"));
  EXPECT_TRUE(contains(error_of([] { (void)parse_run_info(R"({"model":{"total":"many"}})", "run.json"); }), "run.json: model.total: found string"));
  EXPECT_TRUE(contains(error_of([] { (void)parse_run_info("[]", "run.json"); }), "run.json: found array"));
}

TEST(Trace, SizesMustAgree) {
  EXPECT_TRUE(contains(trace_error(R"({"layers":[{"num_experts":2}],"categories":{"names":["a","b"],"share":[[[0.5,0.5]]]}})"),
                       "categories.share[0]: found 1 entries, expected 2 (categories.names)"));
  EXPECT_TRUE(contains(trace_error(R"({"layers":[{"num_experts":2}],"similarity":[[[1,0],[0,1,2]]]})"), "similarity[0][1]: found 3 entries, expected 2"));
  EXPECT_TRUE(contains(trace_error(R"({"layers":[{"num_experts":2}],"passage":{"tokens":["a","b"],"routing":[{"experts":[[0]]}]}})"),
                       "passage.routing[0].experts: found 1 entries, expected 2 (passage.tokens)"));
  EXPECT_TRUE(contains(trace_error(R"({"layers":[{},{}],"passage":{"tokens":[],"routing":[{"experts":[]}]}})"), "expected 2 (MoE layers)"));
  EXPECT_TRUE(contains(trace_error(R"({"layers":[{"num_experts":2}],"passage":{"tokens":["a"],"routing":[{"experts":[[0,1]],"weights":[[1]]}]}})"),
                       "weights[0]: found 1 entries, expected 2"));
}

TEST(Trace, ExpertIdsMustExist) {
  const auto with = [](const std::string& id) {
    return trace_error(R"({"layers":[{"num_experts":2}],"passage":{"tokens":["a"],"routing":[{"experts":[[)" + id + R"(]]}]}})");
  };
  for (const char* id : {"2", "-2", "1.5", "\"0\"", "18446744073709551615"})
    EXPECT_TRUE(contains(with(id), "passage.routing[0].experts[0][0]: found " + std::string(id) + ", expected an expert id from -1 (none) to 1")) << with(id);
}

TEST(Trace, ExcerptsBeginAtTokensInOrder) {
  const auto with = [](const std::string& excerpts) { return R"({"passage":{"tokens":["a","b"],"excerpts":[)" + excerpts + "]}}"; };
  EXPECT_EQ(parse_trace(with(R"({"token":0,"name":"x"},{"token":1})"), "trace.json").excerpts.at(1).token, 1);
  EXPECT_TRUE(contains(trace_error(with(R"({"token":2})")), "passage.excerpts[0].token: found 2, expected 0 to 1"));
  EXPECT_TRUE(contains(trace_error(with(R"({"token":1},{"token":1})")), "passage.excerpts[1].token: found 1, expected 2 to 1"));
}

TEST(Trace, EveryPartMayBeAbsent) {
  EXPECT_TRUE(parse_trace("{}", "trace.json").layers.empty());
  const Trace t = parse_trace(R"({"passage":{"tokens":["a"],"routing":[{"experts":[[3,-1]]}]}})", "trace.json");
  EXPECT_EQ(t.layers.at(0).num_experts, 4);
  EXPECT_TRUE(t.routing[0].weights[0].empty());
}

TEST(ReadRun, AFolderIsNeededButNoFile) {
  EXPECT_TRUE(contains(error_of([] { (void)read_run("/no/such/run"); }, ErrorKind::io), "/no/such/run"));
  const std::filesystem::path dir = std::filesystem::path(SW_BINARY_DIR) / "report/nothing";
  std::filesystem::create_directories(dir);
  const RunFiles run = read_run(dir.string() + "/");
  EXPECT_FALSE(run.info || run.trace || run.sample);
  EXPECT_EQ(run.name(), "nothing");
  EXPECT_EQ(run.num_moe_layers(), 0u);
}

}  // namespace
}  // namespace switchyard::report
