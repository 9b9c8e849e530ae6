#include "report/measures_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "report/json_fields.h"
#include "switchyard/error.h"

namespace switchyard::report {
namespace {

constexpr std::pair<Measure::Form, const char*> kForms[] = {
    {Measure::Form::decimals, "decimals"}, {Measure::Form::percent, "percent"}, {Measure::Form::count, "count"}};

const char* name_of(Measure::Form form) {
  for (const auto& [value, name] : kForms)
    if (value == form) return name;
  fail(ErrorKind::internal, "a form of a measure without a name");
}

Measure read_measure(const JsonAt& at) {
  Measure out{.key = text_field(at, "key"), .title = text_field(at, "title"), .about = text_field(at, "about")};
  const std::string form = text_field(at, "form");
  const auto found = std::find_if(std::begin(kForms), std::end(kForms), [&](const auto& f) { return form == f.second; });
  if (found == std::end(kForms)) fail(ErrorKind::checkpoint, "{}: form = '{}', expected decimals, percent or count", at.where, form);
  out.form = found->first;
  if (const int64_t decimals = count_field(at, "decimals"); decimals >= 0) out.decimals = static_cast<int>(std::min<int64_t>(decimals, 15));
  return out;
}

MeasureRow read_row(const JsonAt& at, const std::vector<Measure>& measures) {
  MeasureRow row{text_field(at, "name"), static_cast<size_t>(std::max<int64_t>(0, count_field(at, "seeds"))), {}};
  for (const Measure& m : measures) {
    const JsonAt cell = child(at, m.key.c_str());
    expect_object(cell);
    row.values.push_back(cell.value.is_null() ? std::vector<double>{} : numbers_field(cell, "values"));
  }
  return row;
}

bool says_nothing(const MeasureTable& t, size_t measure) {
  return std::all_of(t.rows.begin(), t.rows.end(), [&](const MeasureRow& row) {
    const ValueSpread s = spread_of_values(row.values[measure]);
    return s.count == 0 || (s.low == 0 && s.high == 0);
  });
}

// Row numbers, the lowest mean of the first measure first; rows without one come last, in their order.
std::vector<size_t> best_first(const MeasureTable& t) {
  std::vector<size_t> order(t.rows.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto key = [&](size_t row) {
    const double mean = spread_of_values(t.rows[row].values[0]).mean;
    return std::isfinite(mean) ? mean : std::numeric_limits<double>::infinity();
  };
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return key(a) < key(b); });
  return order;
}

}  // namespace

nlohmann::ordered_json measures_json(const MeasureTable& table) {
  Json out = Json::array();
  for (const Measure& m : table.measures)
    out.push_back({{"key", m.key}, {"title", m.title}, {"about", m.about}, {"form", name_of(m.form)}, {"decimals", m.decimals}});
  return out;
}

MeasuredBoard parse_board(const std::string& text, const std::string& file) {
  const Json json = parse_json(text, file);
  const JsonAt root{json, file};
  expect_object(root);
  MeasuredBoard board{text_field(root, "title"), text_field(root, "about"), text_field(root, "command"), text_field(root, "machine"), {}};
  const JsonAt measures = child(root, "measures"), recipes = child(root, "recipes");
  expect_array(measures);
  expect_array(recipes);
  for (size_t i = 0; i < measures.value.size(); ++i) board.table.measures.push_back(read_measure(element(measures, i)));
  if (board.table.measures.empty()) fail(ErrorKind::checkpoint, "{}: no measures; expected what `switchyard compare` writes as compare.json", file);
  for (size_t i = 0; i < recipes.value.size(); ++i) board.table.rows.push_back(read_row(element(recipes, i), board.table.measures));
  return board;
}

std::string measures_markdown(const MeasureTable& t) {
  std::vector<size_t> shown;
  for (size_t m = 0; m < t.measures.size(); ++m)
    if (m == 0 || !says_nothing(t, m)) shown.push_back(m);
  std::string head = "| | |", rule = "|---|---|";
  for (const size_t m : shown) {
    head += " " + t.measures[m].title + " |";
    rule += "---:|";
  }
  std::string out = head + "\n" + rule + "\n";
  size_t place = 0;
  for (const size_t r : best_first(t)) {
    out += fmt::format("| {} | {} |", ++place, t.rows[r].name);
    for (const size_t m : shown) out += " " + measure_text(t.measures[m], t.rows[r].values[m]) + " |";
    out += "\n";
  }
  return out;
}

}  // namespace switchyard::report
