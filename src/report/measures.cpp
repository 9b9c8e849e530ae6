#include "report/measures.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "report/page.h"
#include "report/page_assets.h"
#include "report/svg_bars.h"
#include "report/text.h"
#include "switchyard/error.h"

namespace switchyard::report {
namespace {

using Json = nlohmann::ordered_json;

std::string show(const Measure& measure, double value) {
  if (measure.form == Measure::Form::percent) return percent(value);
  if (measure.form == Measure::Form::count) return short_number(value);
  return fixed(value, measure.decimals);
}

Json number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

bool measured(const MeasureTable& table, size_t measure) {
  return std::any_of(table.rows.begin(), table.rows.end(), [&](const MeasureRow& row) { return spread_of_values(row.values[measure]).count > 0; });
}

void drop(MeasureTable& table, size_t measure) {
  table.measures.erase(table.measures.begin() + static_cast<std::ptrdiff_t>(measure));
  for (MeasureRow& row : table.rows) row.values.erase(row.values.begin() + static_cast<std::ptrdiff_t>(measure));
}

std::string chip(size_t row) { return fmt::format("<span class=\"chip\" style=\"--c:var(--s{})\"></span> ", row % kNumSeriesColours); }

// Some of the measures: all of them side by side are wider than a page.
std::string table_html(const MeasureTable& t, size_t begin, size_t end) {
  std::vector<std::string> columns = {"recipe", "#seeds"};
  for (size_t m = begin; m < end; ++m) columns.push_back("#" + t.measures[m].title);
  std::vector<std::vector<std::string>> rows;
  for (size_t r = 0; r < t.rows.size(); ++r) {
    const std::string name = "<span style=\"white-space:nowrap\">" + chip(r) + escape(t.rows[r].name) + "</span>";
    auto& row = rows.emplace_back(std::vector<std::string>{name, std::to_string(t.rows[r].seeds)});
    for (size_t m = begin; m < end; ++m) row.push_back(escape(measure_text(t.measures[m], t.rows[r].values[m])));
  }
  return table(columns, rows);
}

std::string bars_html(const MeasureTable& t, size_t m) {
  BarChart chart;
  chart.description = t.measures[m].about;
  chart.unit = t.measures[m].form == Measure::Form::percent ? Unit::percent : Unit::plain;
  for (size_t r = 0; r < t.rows.size(); ++r) {
    const ValueSpread s = spread_of_values(t.rows[r].values[m]);
    if (s.count > 0) chart.bars.push_back({t.rows[r].name, measure_text(t.measures[m], t.rows[r].values[m]), r % kNumSeriesColours, s.mean, s.low, s.high});
  }
  return card(t.measures[m].title, t.measures[m].about, draw(chart));
}

}  // namespace

ValueSpread spread_of_values(const std::vector<double>& values) {
  ValueSpread s{NAN, NAN, NAN, NAN, 0};
  double sum = 0, squares = 0;
  for (const double v : values) {
    if (!std::isfinite(v)) continue;
    sum += v;
    s.low = std::fmin(s.low, v);
    s.high = std::fmax(s.high, v);
    ++s.count;
  }
  if (s.count == 0) return s;
  s.mean = sum / static_cast<double>(s.count);
  for (const double v : values)
    if (std::isfinite(v)) squares += (v - s.mean) * (v - s.mean);
  s.deviation = s.count > 1 ? std::sqrt(squares / static_cast<double>(s.count - 1)) : 0;
  return s;
}

void drop_unmeasured(MeasureTable& table) {
  for (size_t m = table.measures.size(); m-- > 0;)
    if (!measured(table, m)) drop(table, m);
}

void drop_measures(MeasureTable& table, const std::vector<std::string>& keys) {
  for (const auto& key : keys) {
    const auto found = std::find_if(table.measures.begin(), table.measures.end(), [&](const Measure& m) { return m.key == key; });
    if (found == table.measures.end()) {
      std::vector<std::string> known;
      for (const Measure& m : table.measures) known.push_back(m.key);
      fail(ErrorKind::usage, "no measure is called '{}'; expected some of {}", key, fmt::join(known, ", "));
    }
    drop(table, static_cast<size_t>(found - table.measures.begin()));
  }
}

std::string measure_text(const Measure& measure, const std::vector<double>& values) {
  const ValueSpread s = spread_of_values(values);
  if (s.count < 2 || measure.form == Measure::Form::count) return show(measure, s.mean);
  return show(measure, s.mean) + " ± " + show(measure, s.deviation);
}

Json to_json(const MeasureTable& table) {
  Json out = Json::array();
  for (const MeasureRow& row : table.rows) {
    Json entry = {{"name", row.name}, {"seeds", row.seeds}};
    for (size_t m = 0; m < table.measures.size(); ++m) {
      const ValueSpread s = spread_of_values(row.values[m]);
      Json values = Json::array();
      for (const double v : row.values[m]) values.push_back(number(v));
      entry[table.measures[m].key] = {{"mean", number(s.mean)}, {"deviation", number(s.deviation)}, {"low", number(s.low)}, {"high", number(s.high)}, {"values", values}};
    }
    out.push_back(std::move(entry));
  }
  return out;
}

std::string measures_html(const MeasureTable& t) {
  constexpr size_t kColumns = 6;
  std::string out;
  for (size_t begin = 0; begin < t.measures.size(); begin += kColumns)
    out += card("", begin == 0 ? "Mean ± standard deviation over the seeds." : "", table_html(t, begin, std::min(begin + kColumns, t.measures.size())));
  std::vector<std::string> cards;
  std::vector<std::pair<std::string, std::string>> about;
  for (size_t m = 0; m < t.measures.size(); ++m) {
    if (t.measures[m].drawn) cards.push_back(bars_html(t, m));
    about.emplace_back(t.measures[m].title, t.measures[m].about);
  }
  return out + "<div style=\"margin:20px 0\">" + card_grid(cards) + "</div>" + card("What the columns say", "", fact_table(about));
}

std::string render_measures(const MeasureTable& table, const std::string& title, const std::string& about) {
  const std::string head = fmt::format("<header>\n<p class=\"kicker\">Switchyard comparison</p>\n<h1>{}</h1>\n<p class=\"sub\">{}</p>\n</header>\n", escape(title), escape(about));
  return html_document(title, "", head + "<main>\n" + section_html({"figures", "Figures", "", measures_html(table)}) +
                                      "</main>\n<footer>Written by Switchyard. This page needs no network.</footer>\n");
}

}  // namespace switchyard::report
