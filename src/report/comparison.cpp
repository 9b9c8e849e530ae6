#include "report/comparison.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/files.h"
#include "switchyard/error.h"

namespace switchyard::report {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

Series validation(const RunFiles& run, CompareOver over) {
  Series out;
  for (const EvalRecord& e : run.evals) out.push_back({over == CompareOver::steps ? static_cast<double>(e.step) : e.seconds, e.loss});
  return finite(out);
}

double final_loss(const RunFiles& run) {
  const Series s = validation(run, CompareOver::steps);
  return s.empty() ? kNaN : s.back().y;
}

double mean(const std::vector<double>& values) {
  double sum = 0;
  size_t count = 0;
  for (const double v : values)
    if (std::isfinite(v)) {
      sum += v;
      ++count;
    }
  return count == 0 ? kNaN : sum / static_cast<double>(count);
}

GroupCurve curve_of(const RunGroup& group, CompareOver over, double level) {
  GroupCurve curve;
  std::vector<Series> with_points;
  for (const RunFiles& run : group.seeds) {
    curve.seeds.push_back(validation(run, over));
    curve.final_loss.push_back(final_loss(run));
    curve.reach.push_back(first_x_at_or_below(curve.seeds.back(), level));
    if (!curve.seeds.back().empty()) with_points.push_back(curve.seeds.back());
  }
  curve.spread = spread_of(with_points);
  return curve;
}

std::vector<RunFiles> read_runs(const std::vector<std::string>& dirs) {
  if (dirs.empty()) fail(ErrorKind::usage, "compare: no run folder given, expected at least one");
  std::vector<RunFiles> runs;
  for (const std::string& dir : dirs) runs.push_back(read_run(dir));
  return runs;
}

}  // namespace

std::vector<RunGroup> group_runs(std::vector<RunFiles> runs) {
  std::vector<RunGroup> groups;
  for (RunFiles& run : runs) {
    const std::string name = run.name();
    auto group = std::find_if(groups.begin(), groups.end(), [&](const RunGroup& g) { return g.name == name; });
    if (group == groups.end()) group = groups.insert(groups.end(), RunGroup{name, {}});
    group->seeds.push_back(std::move(run));
  }
  return groups;
}

Comparison compare(std::vector<RunFiles> runs) {
  Comparison c;
  c.groups = group_runs(std::move(runs));
  c.baseline_loss = kNaN;
  if (c.groups.empty()) return c;
  std::vector<double> baseline;
  for (const RunFiles& run : c.groups[0].seeds) baseline.push_back(final_loss(run));
  c.baseline_loss = mean(baseline);
  for (const RunGroup& group : c.groups) {
    c.over_steps.push_back(curve_of(group, CompareOver::steps, c.baseline_loss));
    c.over_seconds.push_back(curve_of(group, CompareOver::seconds, c.baseline_loss));
  }
  return c;
}

void write_comparison(const std::vector<std::string>& run_dirs, const std::string& out_path) {
  write_file_atomic(out_path, render_comparison(compare(read_runs(run_dirs)), "Comparison of runs", ""));
}

void write_comparison_svg(const std::vector<std::string>& run_dirs, CompareOver over, const std::string& title, const std::string& out_path) {
  write_file_atomic(out_path, comparison_svg(compare(read_runs(run_dirs)), over, title));
}

}  // namespace switchyard::report
