#include "report/report.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "report/comparison.h"
#include "report/markup_check.h"
#include "report/sample_run.h"
#include "report/sections.h"
#include "switchyard/error.h"

namespace switchyard::report {
namespace {

namespace fs = std::filesystem;

const fs::path kOut = fs::path(SW_BINARY_DIR) / "report";
const fs::path kCorpus = fs::path(SW_SOURCE_DIR) / "data/english_classics.txt";

RunFiles sample(const SampleRun& options, const char* name) {
  write_sample_run(kOut / name, options, kCorpus);
  return read_run((kOut / name).string());
}

void expect_self_contained(const std::string& page) {
  EXPECT_EQ(MarkupCheck(page).error(), "");
  for (const char* outside : {"http:", "https:", "src=", "@import", "url("}) EXPECT_FALSE(contains(page, outside)) << outside;
}

TEST(Report, EverySectionOfACompleteRunIsThere) {
  const std::string page = render_report(sample({}, "complete"));
  expect_self_contained(page);
  for (const char* id : {"loss", "load", "balance", "routing", "speed", "model", "sample", "reproduce"}) {
    EXPECT_TRUE(contains(page, std::string("<section id=\"") + id + "\">")) << id;
    EXPECT_TRUE(contains(page, std::string("href=\"#") + id + "\"")) << id;
  }
  for (const char* part : {"Validation loss", "Bits per byte", "Perplexity", "Active parameters", "Load CV over its floor", "Dropped", "Routing by category",
                           "Expert similarity", "A passage of validation text", "Throughput", "Learning rate", "switchyard train recipes/demo/sparse.toml"})
    EXPECT_TRUE(contains(page, part)) << part;
  EXPECT_FALSE(contains(page, "class=\"missing\""));
  EXPECT_FALSE(contains(page, ">nan"));
}

TEST(Report, TheFirstLayerShowsWithoutScript) {
  const std::string page = render_report(sample({}, "complete"));
  EXPECT_TRUE(contains(page, "<div data-layer=\"0\"><"));
  EXPECT_TRUE(contains(page, "<div data-layer=\"1\" hidden=\"hidden\">"));
  EXPECT_TRUE(contains(page, "class=\"tok\" style=\"--e:var(--e"));
}

TEST(Report, IsTheSameEveryTime) {
  const RunFiles run = sample({}, "complete");
  EXPECT_EQ(render_report(run), render_report(run));
}

TEST(Report, AnEmptyRunGivesAPageThatSaysWhatIsMissing) {
  const std::string page = render_report(RunFiles{});
  expect_self_contained(page);
  for (const char* file : {"metrics.jsonl", "run.json", "trace.json", "sample.txt"}) EXPECT_TRUE(contains(page, file)) << file;
}

// Each record alone, and fields one by one: no combination may fail or leave "nan" on the page.
TEST(Report, PartialRunsGivePages) {
  const RunFiles whole = sample({}, "complete");
  for (int without = 0; without < 6; ++without) {
    RunFiles run = whole;
    if (without == 0) run.train.clear();
    if (without == 1) run.evals.clear();
    if (without == 2) run.info.reset();
    if (without == 3) run.trace.reset();
    if (without == 4) run.train.resize(1);
    if (without == 5)
      for (TrainRecord& r : run.train) r = TrainRecord{r.step, r.loss, NAN, NAN, NAN, NAN, NAN, {}, {}, {}, {}, {}, {}};
    const std::string page = render_report(run);
    EXPECT_EQ(MarkupCheck(page).error(), "") << without;
    EXPECT_FALSE(contains(page, ">nan")) << without;
    EXPECT_TRUE(without == 4 || contains(page, "class=\"missing\"")) << without;
  }
}

TEST(Report, TextOfFilesIsEscapedEverywhere) {
  const std::string page = render_report(read_run(SW_TEST_DATA "/report/hostile"));
  expect_self_contained(page);
  for (const char* raw : {"alert(\"", "<b>", "<h1>sample", "<!--", "</style> ", "\x01", "\x1b", "\xff"}) EXPECT_FALSE(contains(page, raw)) << raw;
  EXPECT_TRUE(contains(page, "&lt;script&gt;alert(&quot;x&quot;)"));
  EXPECT_TRUE(contains(page, "␛"));
}

TEST(Report, ManyExpertsAndLayersStaySmall) {
  SampleRun large;
  large.moe_layers = 24;
  large.num_experts = 128;
  large.top_k = 8;
  large.steps = 100;
  const std::string page = render_report(sample(large, "many"));
  expect_self_contained(page);
  EXPECT_LT(page.size(), 8u << 20);
}

TEST(Report, ADenseRunSaysSoOnce) {
  SampleRun dense;
  dense.dense = true;
  const std::string page = render_report(sample(dense, "dense"));
  EXPECT_TRUE(contains(page, "this run has no MoE layer"));
  EXPECT_FALSE(contains(page, "id=\"routing\""));
}

TEST(Findings, NameIdleAndHeavyExpertsDropsAndARisingLoss) {
  RunFiles run;
  TrainRecord r;
  r.load = {{0.70, 0.29, 0.005, 0.005}};
  r.dropped = {0.2};
  for (r.step = 1; r.step <= 8; ++r.step) run.train.push_back(r);
  run.evals = {{1, 3.0, 0.01, NAN, NAN, NAN}, {4, 2.0, 0.01, NAN, NAN, NAN}, {8, 2.5, 0.01, NAN, NAN, NAN}};
  std::string text;
  for (const Finding& f : findings(run))
    if (f.kind == Finding::Kind::warn) text += f.text + "\n";
  EXPECT_TRUE(contains(text, "lowest at step 4 (2.000) and is 2.500"));
  EXPECT_TRUE(contains(text, "expert 2 of MoE layer 1 (0.02×), expert 3"));
  EXPECT_TRUE(contains(text, "expert 0 of MoE layer 1 (2.8×)"));
  EXPECT_TRUE(contains(text, "20.0% of the choices"));
}

TEST(WriteReport, UnwritablePathsAreErrorsThatNameThem) {
  try {
    write_report(SW_TEST_DATA "/report/hostile", "/no/such/folder/report.html");
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::io);
    EXPECT_TRUE(contains(e.what(), "/no/such/folder/report.html")) << e.what();
  }
}

RunFiles run_of(const std::string& name, double first, double last, double seconds_per_step) {
  RunFiles run;
  run.info = RunInfo{};
  run.info->name = name;
  for (int64_t step = 0; step <= 100; step += 10)
    run.evals.push_back({step, first + (last - first) * static_cast<double>(step) / 100, NAN, NAN, NAN, seconds_per_step * static_cast<double>(step)});
  return run;
}

// Straight lines: dense 4 -> 2 in 100 steps, sparse 4 -> 0: it arrives at 2 after 50 steps, and at 3 s a step after 150 s.
TEST(Comparison, SaysWhenEachRunReachesTheBaseline) {
  const Comparison c = compare({run_of("dense", 4, 2, 2), run_of("sparse", 4, 0, 3)});
  ASSERT_EQ(c.groups.size(), 2u);
  EXPECT_EQ(c.baseline_loss, 2);
  EXPECT_NEAR(c.over_steps[1].reach[0], 50, 1e-9);
  EXPECT_NEAR(c.over_seconds[1].reach[0], 150, 1e-9);
  const std::string page = render_comparison(c, "a < b", "about & so on");
  expect_self_contained(page);
  EXPECT_TRUE(contains(page, "2.00× sooner"));
  EXPECT_TRUE(contains(page, "1.33× sooner"));
}

TEST(Comparison, ARunThatNeverArrivesIsSaidNotTo) {
  EXPECT_TRUE(contains(render_comparison(compare({run_of("dense", 4, 2, 2), run_of("worse", 4, 3, 1)}), "t", ""), "not reached"));
}

TEST(Comparison, SeedsOfOneNameAreOneGroupWithABand) {
  const Comparison c = compare({run_of("a", 4, 2, 1), run_of("b", 4, 1, 1), run_of("a", 4, 3, 1)});
  ASSERT_EQ(c.groups.size(), 2u);
  ASSERT_EQ(c.over_steps[0].spread.size(), 11u);
  EXPECT_EQ(c.over_steps[0].spread.back().low, 2);
  EXPECT_EQ(c.over_steps[0].spread.back().high, 3);
  EXPECT_EQ(c.baseline_loss, 2.5);
  const std::string svg = comparison_svg(c, CompareOver::steps, "t");
  EXPECT_EQ(MarkupCheck(svg).error(), "");
  EXPECT_TRUE(contains(svg, "class=\"band s0 thick\""));
  EXPECT_FALSE(contains(svg, "class=\"band s1"));
}

TEST(Comparison, RunsWithoutEvaluationsGiveAPage) {
  const std::string page = render_comparison(compare({RunFiles{}, RunFiles{}}), "t", "");
  expect_self_contained(page);
  EXPECT_TRUE(contains(page, "No eval record"));
}

}  // namespace
}  // namespace switchyard::report
