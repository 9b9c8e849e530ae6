#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "report/axis.h"
#include "report/markup_check.h"
#include "report/page_assets.h"
#include "report/svg_chart.h"
#include "report/svg_matrix.h"
#include "report/svg_shares.h"

namespace switchyard::report {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

size_t count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++n;
  return n;
}

// Property over many ranges: two ticks or more and no more than asked for, evenly spaced, inside the range, which holds the data.
TEST(Axis, TicksAreFewEvenAndInside) {
  for (const Unit unit : {Unit::plain, Unit::percent, Unit::times, Unit::seconds})
    for (const bool round : {true, false})
      for (const int most : {3, 5, 9})
        for (const auto& [low, high] : {std::pair{0.0, 1.0}, {0.0, 600.0}, {1.93, 5.31}, {-3.0, 7.5}, {2.001, 2.002}, {0.0, 3e-3}, {1e5, 7e9}, {0.0, 40000.0}}) {
          const Axis axis = make_axis(low, high, most, unit, round);
          SCOPED_TRACE(std::to_string(low) + " " + std::to_string(high) + " " + std::to_string(most));
          EXPECT_GE(axis.ticks.size(), round ? 2u : 1u);
          EXPECT_LE(axis.ticks.size(), static_cast<size_t>(most));
          EXPECT_EQ(axis.ticks.size(), axis.labels.size());
          const double tiny = 1e-9 * (axis.high - axis.low);
          EXPECT_LE(axis.low, low + tiny);
          EXPECT_GE(axis.high, high - tiny);
          for (size_t i = 0; i < axis.ticks.size(); ++i) {
            EXPECT_GE(axis.ticks[i], axis.low - tiny);
            EXPECT_LE(axis.ticks[i], axis.high + tiny);
            if (i == 0) continue;
            EXPECT_NE(axis.labels[i], axis.labels[i - 1]);
            EXPECT_NEAR(axis.ticks[i] - axis.ticks[i - 1], axis.ticks[1] - axis.ticks[0], 1e-6 * (axis.high - axis.low));
          }
        }
}

TEST(Axis, LabelsSayTheirScale) {
  EXPECT_EQ(make_axis(0, 600, 5, Unit::plain, true).labels, (std::vector<std::string>{"0", "200", "400", "600"}));
  EXPECT_EQ(make_axis(0, 40000, 5, Unit::plain, true).labels.back(), "40k");
  EXPECT_EQ(make_axis(0, 0.003, 4, Unit::plain, true).scale, "×10⁻³");
  EXPECT_EQ(make_axis(0, 0.003, 4, Unit::plain, true).labels.back(), "3");
  EXPECT_EQ(make_axis(0, 600, 5, Unit::seconds, true).scale, "min");
  EXPECT_EQ(make_axis(0, 0.06, 4, Unit::percent, true).labels, (std::vector<std::string>{"0%", "2%", "4%", "6%"}));
}

TEST(Axis, AnyRangeCanBeDrawn) {
  for (const auto& [low, high] : {std::pair{3.0, 3.0}, {0.0, 0.0}, {kInf, -kInf}, {NAN, 1.0}, {5.0, -5.0}, {1e300, 1e300}}) {
    const Axis axis = make_axis(low, high, 5, Unit::plain, true);
    EXPECT_TRUE(std::isfinite(axis.low) && std::isfinite(axis.high) && axis.low < axis.high);
    EXPECT_FALSE(axis.ticks.empty());
  }
}

TEST(LineChart, EveryKindOfDataGivesWellFormedMarkup) {
  for (const Series& points : {Series{}, Series{{1, NAN}}, Series{{1, 2}}, Series{{1, 2}, {2, NAN}, {3, 2}}, Series{{0, 1e-9}, {1e6, 1e9}}}) {
    LineChart chart;
    chart.x_label = "<x> & \"y\"";
    chart.label_ends = true;
    chart.lines = {{"a < b & c", "s0", "", points, std::vector<double>(points.size(), 0.1), true}};
    chart.references = {{1, "<ref>", true}, {1, "&", false}};
    const std::string svg = draw(chart);
    EXPECT_EQ(MarkupCheck(svg).error(), "");
    EXPECT_EQ(svg.find("nan"), std::string::npos);
    EXPECT_EQ(svg.find("inf\""), std::string::npos);
  }
  EXPECT_NE(draw(LineChart{}).find("no values"), std::string::npos);
}

TEST(LineChart, MissingValuesBreakTheLine) { EXPECT_EQ(path_data({{0, 1}, {1, NAN}, {2, 3}, {3, 4}}), "M0.0 1.0M2.0 3.0L3.0 4.0"); }

TEST(LineChart, TooltipsNameEveryLine) {
  LineChart chart;
  chart.lines = {{"train", "s0", "", {{0, 3}, {100, 2}}, {}, false}, {"validation", "s1", "", {{100, 2.5}}, {}, true}};
  const std::string svg = draw(chart);
  EXPECT_NE(svg.find("<title>step 0\ntrain: 3.000</title>"), std::string::npos);
  EXPECT_NE(svg.find("<title>step 100\ntrain: 2.000\nvalidation: 2.500</title>"), std::string::npos);
}

TEST(LineChart, EndLabelsDoNotOverlap) {
  LineChart chart;
  chart.label_ends = true;
  for (const char* name : {"one", "two", "three"}) chart.lines.push_back({name, "s0", "", {{0, 1}, {1, 1.0}}, {}, false});
  const std::string svg = draw(chart);
  std::vector<double> heights;
  for (size_t at = svg.find("endlabel"); at != std::string::npos; at = svg.find("endlabel", at + 1))
    heights.push_back(std::stod(svg.substr(svg.rfind("y=\"", at) + 3)));
  ASSERT_EQ(heights.size(), 3u);
  EXPECT_GE(heights[1] - heights[0], 14);
  EXPECT_GE(heights[2] - heights[1], 14);
  EXPECT_LE(heights[2], chart.height);
}

TEST(LineChart, StandalonePicturesNeedNoPage) {
  LineChart chart;
  chart.title = "Title";
  chart.lines = {{"a", "s0 thick", "", {{0, 1}, {1, 2}}, {}, false}};
  chart.bands = {{"s0", {{0, 1, 0.9, 1.1}, {1, 2, 1.9, 2.1}}}};
  const std::string svg = draw_standalone(chart);
  EXPECT_EQ(svg.rfind("<svg xmlns=\"http://www.w3.org/2000/svg\"", 0), 0u);
  EXPECT_EQ(svg.find("var(--s"), std::string::npos);
  EXPECT_EQ(svg.find("var(--card"), std::string::npos);
  EXPECT_NE(svg.find("fill=\"#ffffff\""), std::string::npos);
  EXPECT_EQ(MarkupCheck(svg).error(), "");
}

TEST(ShareChart, OneBandPerExpertAndTheBordersOfUniformLoad) {
  ShareChart chart;
  for (int i = 0; i < 300; ++i) {
    chart.x.push_back(i);
    chart.share.push_back({0.1, 0.2, 0.3, 0.4});
  }
  const std::string svg = draw(chart);
  EXPECT_EQ(count(svg, "class=\"share\""), 4u);
  EXPECT_EQ(count(svg, "class=\"uniform\""), 3u);
  EXPECT_EQ(MarkupCheck(svg).error(), "");
  EXPECT_NE(svg.find("last 40.0% of choices"), std::string::npos);
  EXPECT_EQ(MarkupCheck(draw(ShareChart{})).error(), "");
}

TEST(ShareChart, AveragingKeepsTheMeanOfEveryExpert) {
  std::vector<double> x;
  std::vector<std::vector<double>> rows;
  for (int i = 0; i < 120; ++i) {
    x.push_back(i);
    rows.push_back({i / 200.0, 1 - i / 200.0});
  }
  double before = 0, after = 0;
  for (const auto& row : rows) before += row[0] / 120;
  average_rows(x, rows, 40);
  ASSERT_EQ(rows.size(), 40u);
  for (const auto& row : rows) after += row[0] / 40;
  EXPECT_NEAR(before, after, 1e-12);
  EXPECT_EQ(x.back(), 119);
}

TEST(Matrix, CellsWithAndWithoutTooltips) {
  Matrix m;
  m.row_labels = {"<a>", "b"};
  m.column_labels = {"0", "1", "2"};
  m.level = {{-1, 0, 1}, {NAN, 0.5, -0.5}};
  EXPECT_EQ(count(draw(m), "<path class"), 5u);  // level 0 is the page itself
  m.title = {{"x", "y", "<z>"}, {"a", "b", "c"}};
  EXPECT_EQ(count(draw(m), "class=\"cell\""), 6u);
  EXPECT_EQ(MarkupCheck(draw(m)).error(), "");
}

TEST(RatioLevel, IsSymmetricAboutUniform) {
  EXPECT_EQ(ratio_level(1, 4), 0);
  EXPECT_EQ(ratio_level(2, 4), 0.5);
  EXPECT_EQ(ratio_level(0.5, 4), -0.5);
  EXPECT_EQ(ratio_level(100, 4), 1);
  EXPECT_EQ(ratio_level(0, 4), -1);
}

}  // namespace
}  // namespace switchyard::report
