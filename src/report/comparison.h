// Several runs over each other: validation loss against steps and against time. Runs of one name are seeds of one group
// and are drawn as their mean with a band from the least to the greatest.
#pragma once

#include <string>
#include <vector>

#include "report/run_files.h"
#include "report/series.h"

namespace switchyard::report {

struct RunGroup {
  std::string name;
  std::vector<RunFiles> seeds;
};

// In the order in which the names appear; the first group is the baseline of the figures.
[[nodiscard]] std::vector<RunGroup> group_runs(std::vector<RunFiles> runs);

enum class CompareOver { steps, seconds };

// What one group shows on one axis. `reach` holds, per seed, the x at which it comes down to the baseline's final loss
// (mean over the baseline's seeds); NaN: it does not.
struct GroupCurve {
  std::vector<Series> seeds;
  std::vector<SpreadPoint> spread;
  std::vector<double> final_loss;  // per seed, NaN without any eval record
  std::vector<double> reach;
};

struct Comparison {
  std::vector<RunGroup> groups;
  std::vector<GroupCurve> over_steps, over_seconds;  // one per group
  double baseline_loss = 0;                          // NaN when the baseline has no eval record
};

[[nodiscard]] Comparison compare(std::vector<RunFiles> runs);

struct MeasureTable;  // report/measures.h

// The page; "about" is a paragraph of plain text under the title; `measures` adds a section.
[[nodiscard]] std::string render_comparison(const Comparison& comparison, const std::string& title, const std::string& about, const MeasureTable* measures = nullptr);

// A picture for use outside of a page, on its own light background.
[[nodiscard]] std::string comparison_svg(const Comparison& comparison, CompareOver over, const std::string& title);

// Reads the runs and writes the page to `out_path`, whole or not at all. Throws like write_report, and Error{usage}
// without any run.
void write_comparison(const std::vector<std::string>& run_dirs, const std::string& out_path);
void write_comparison_svg(const std::vector<std::string>& run_dirs, CompareOver over, const std::string& title, const std::string& out_path);

}  // namespace switchyard::report
