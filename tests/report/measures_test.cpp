#include "report/measures.h"
#include "report/svg_bars.h"

#include <gtest/gtest.h>

#include <cmath>

namespace switchyard::report {
namespace {

TrainRecord record(int64_t step, double cv, double tokens_per_s) {
  TrainRecord r;
  r.step = step;
  r.tokens = 100.0 * static_cast<double>(step);
  r.tokens_per_s = tokens_per_s;
  r.load_cv = {cv, 3 * cv};
  r.load_cv_floor = {0.1, 0.1};
  r.dropped = {0, 0.5};
  r.entropy = {1, 2};
  return r;
}

RunFiles sparse(double loss) {
  RunFiles run;
  run.info.emplace();
  run.info->name = "sparse";
  run.info->params_total = 10;
  for (int64_t s = 10; s <= 100; s += 10) run.train.push_back(record(s, s > 90 ? 0.2 : 9, s == 50 ? 1 : 1000));
  run.evals.push_back({.step = 100, .loss = loss});
  run.trace.emplace();
  run.trace->layers = {{0, 2, 1}, {1, 2, 1}};
  run.trace->category_share = {{{1, 0}, {0, 1}}, {{0.5, 0.5}, {0.5, 0.5}}};
  return run;
}

RunFiles dense(double loss) {
  RunFiles run;
  run.info.emplace();
  run.info->name = "dense";
  TrainRecord r;
  r.step = 10;
  r.tokens = 1000;
  r.tokens_per_s = 2000;
  run.train.push_back(r);
  run.evals.push_back({.step = 100, .loss = loss});
  return run;
}

double mean_of(const MeasureTable& t, size_t row, const std::string& key) {
  for (size_t m = 0; m < t.measures.size(); ++m)
    if (t.measures[m].key == key) return spread_of_values(t.rows[row].values[m]).mean;
  ADD_FAILURE() << key;
  return NAN;
}

TEST(Measures, AreTheMeansThatTheirSentencesSay) {
  const auto t = measure_runs(group_runs({dense(2.5), sparse(2), sparse(3)}));
  ASSERT_EQ(t.rows.size(), 2u);
  EXPECT_EQ(t.rows[1].seeds, 2u);
  EXPECT_DOUBLE_EQ(mean_of(t, 1, "loss"), 2.5);
  EXPECT_DOUBLE_EQ(mean_of(t, 1, "load_over_floor"), 4) << "(2 + 6) / 2 of the one record behind step 90";
  EXPECT_DOUBLE_EQ(mean_of(t, 1, "dropped"), 0.25);
  EXPECT_DOUBLE_EQ(mean_of(t, 1, "entropy"), 1.5);
  EXPECT_DOUBLE_EQ(mean_of(t, 1, "specialisation"), 0.5) << "one layer tells the domains apart, one does not";
  EXPECT_DOUBLE_EQ(mean_of(t, 1, "step_ms"), 100) << "the slow step is no measure";
  EXPECT_DOUBLE_EQ(mean_of(t, 1, "step_over_dense"), 2);
  EXPECT_DOUBLE_EQ(mean_of(t, 1, "state_bytes"), 160);
  EXPECT_TRUE(std::isnan(mean_of(t, 0, "load_over_floor"))) << "a dense model has no load";
}

TEST(Measures, LeaveOutWhatNoRunHolds) {
  for (const auto& m : measure_runs(group_runs({sparse(2)})).measures) {
    EXPECT_NE(m.key, "fluctuation") << "no routing_change.json here";
    EXPECT_NE(m.key, "step_over_dense") << "no dense recipe";
  }
}

TEST(Measures, SpreadIsThatOfASample) {
  const auto s = spread_of_values({1, NAN, 3});
  EXPECT_EQ(s.count, 2u);
  EXPECT_DOUBLE_EQ(s.mean, 2);
  EXPECT_DOUBLE_EQ(s.deviation, std::sqrt(2.0));
  EXPECT_EQ(s.low, 1);
  EXPECT_EQ(s.high, 3);
  EXPECT_EQ(spread_of_values({5}).deviation, 0);
  EXPECT_TRUE(std::isnan(spread_of_values({NAN}).mean));
}

TEST(Measures, TextJsonAndPageSayTheSame) {
  const auto t = measure_runs(group_runs({sparse(2), sparse(3)}));
  EXPECT_EQ(measure_text(t.measures[0], t.rows[0].values[0]), "2.5000 ± 0.7071");
  const auto json = to_json(t);
  EXPECT_EQ(json[0]["name"], "sparse");
  EXPECT_EQ(json[0]["loss"]["mean"], 2.5);
  EXPECT_EQ(json[0]["loss"]["values"], nlohmann::ordered_json({2.0, 3.0}));
  const std::string page = render_measures(t, "a < b", "about");
  EXPECT_NE(page.find("a &lt; b"), std::string::npos);
  EXPECT_NE(page.find("2.5000 ± 0.7071"), std::string::npos);
}

TEST(Bars, EndAtTheMeanAndReachOverTheSeeds) {
  const std::string svg = draw(BarChart{.width = 228, .description = "two bars", .bars = {{"one", "5", 0, 5, 5, 5}, {"two & three", "10", 1, 10, 8, 10}}});
  EXPECT_NE(svg.find("width=\"100.0\""), std::string::npos) << svg;  // half of 228 - 28
  EXPECT_NE(svg.find("width=\"200.0\""), std::string::npos) << svg;
  EXPECT_NE(svg.find("two &amp; three"), std::string::npos);
  EXPECT_NE(svg.find("M174.0"), std::string::npos) << "the whisker begins at 8 of 10: 14 + 160";
  EXPECT_NE(draw(BarChart{}).find("no values"), std::string::npos);
}

}  // namespace
}  // namespace switchyard::report
