// The figures by which recipes are compared, each over the seeds of a recipe: as text, JSON and part of a page.
#pragma once

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

#include "report/comparison.h"

namespace switchyard::report {

struct Measure {
  enum class Form { decimals, percent, count } form = Form::decimals;
  std::string key, title;  // key: in JSON
  std::string about;       // what it is and how it was measured, one sentence
  int decimals = 3;
  bool drawn = false;      // as bars
};

struct MeasureRow {
  std::string name;
  size_t seeds = 0;
  std::vector<std::vector<double>> values;  // per measure, one per seed; NaN = this run cannot say
};

struct MeasureTable {
  std::vector<Measure> measures;
  std::vector<MeasureRow> rows;
};

// Of the finite values. Deviation: of the sample (n - 1), 0 for one value. All NaN without any.
struct ValueSpread {
  double mean = 0, deviation = 0, low = 0, high = 0;
  size_t count = 0;
};
[[nodiscard]] ValueSpread spread_of_values(const std::vector<double>& values);

// Of training runs. What a run does not hold stays NaN; measures that no run has are left out.
[[nodiscard]] MeasureTable measure_runs(const std::vector<RunGroup>& groups);

// Leaves out the measures without any finite value.
void drop_unmeasured(MeasureTable& table);

// Leaves out measures by their keys. Throws Error{usage} for a key that no measure has, with those that there are.
void drop_measures(MeasureTable& table, const std::vector<std::string>& keys);

// "1.234 ± 0.012", "12.3% ± 0.4%", "1.25 M"; one value has no deviation.
[[nodiscard]] std::string measure_text(const Measure& measure, const std::vector<double>& values);

// [{"name", "seeds", "<key>": {"mean", "deviation", "low", "high", "values"}, ...}]; numbers that are not there are null.
[[nodiscard]] nlohmann::ordered_json to_json(const MeasureTable& table);

// A table, what its columns are, and bars of the drawn measures.
[[nodiscard]] std::string measures_html(const MeasureTable& table);

// A page of them alone.
[[nodiscard]] std::string render_measures(const MeasureTable& table, const std::string& title, const std::string& about);

}  // namespace switchyard::report
