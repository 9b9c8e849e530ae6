// Columns of the metrics as series.
#include <cmath>

#include "report/sections.h"

namespace switchyard::report {

Series train_series(const RunFiles& run, double TrainRecord::*field) {
  Series out;
  for (const TrainRecord& r : run.train) out.push_back({static_cast<double>(r.step), r.*field});
  return finite(out);
}

Series layer_series(const RunFiles& run, std::vector<double> TrainRecord::*field, size_t layer) {
  Series out;
  for (const TrainRecord& r : run.train)
    if (layer < (r.*field).size()) out.push_back({static_cast<double>(r.step), (r.*field)[layer]});
  return finite(out);
}

LoadHistory load_history(const RunFiles& run, size_t layer) {
  LoadHistory history;
  size_t num_experts = 0;
  for (auto r = run.train.rbegin(); r != run.train.rend() && num_experts == 0; ++r)
    if (layer < r->load.size()) num_experts = r->load[layer].size();
  for (const TrainRecord& r : run.train) {
    if (layer >= r.load.size() || r.load[layer].size() != num_experts || num_experts == 0) continue;
    bool whole = true;
    for (const double v : r.load[layer]) whole = whole && std::isfinite(v) && v >= 0;
    if (!whole) continue;
    history.steps.push_back(static_cast<double>(r.step));
    history.share.push_back(r.load[layer]);
  }
  return history;
}

std::vector<double> late_load(const RunFiles& run, size_t layer) {
  const LoadHistory history = load_history(run, layer);
  const size_t n = history.share.size();
  if (n == 0) return {};
  const size_t first = n - (n + 3) / 4;
  std::vector<double> mean(history.share[0].size(), 0.0);
  for (size_t i = first; i < n; ++i)
    for (size_t e = 0; e < mean.size(); ++e) mean[e] += history.share[i][e] / static_cast<double>(n - first);
  return mean;
}

}  // namespace switchyard::report
