// The parts of a run's report, in the order of the page. Each is complete by itself and says what the run lacks.
#pragma once

#include <string>
#include <vector>

#include "report/page.h"
#include "report/run_files.h"
#include "report/series.h"

namespace switchyard::report {

[[nodiscard]] std::string header_html(const RunFiles& run);     // name, figures, findings
[[nodiscard]] Section loss_section(const RunFiles& run);
[[nodiscard]] Section load_section(const RunFiles& run);
[[nodiscard]] Section balance_section(const RunFiles& run);
[[nodiscard]] Section routing_section(const RunFiles& run);     // categories, similarity and the passage of one layer
[[nodiscard]] Section speed_section(const RunFiles& run);
[[nodiscard]] Section model_section(const RunFiles& run);
[[nodiscard]] Section sample_section(const RunFiles& run);
[[nodiscard]] Section reproduce_section(const RunFiles& run);

// The passage coloured by expert with its legend and the data for the script.
[[nodiscard]] std::string passage_html(const RunFiles& run);

// Sentences about the run, from fixed rules (findings.cpp says which).
struct Finding {
  enum class Kind { good, warn, info } kind = Kind::info;
  std::string text;
};
[[nodiscard]] std::vector<Finding> findings(const RunFiles& run);

// Values of one field over the steps: for charts.
[[nodiscard]] Series train_series(const RunFiles& run, double TrainRecord::*field);
// Values of one entry of a per-layer field over the steps; records without that layer are left out.
[[nodiscard]] Series layer_series(const RunFiles& run, std::vector<double> TrainRecord::*field, size_t layer);
// Load of one layer: steps and shares [N][E] of the records that have as many experts as the last one.
struct LoadHistory {
  std::vector<double> steps;
  std::vector<std::vector<double>> share;
};
[[nodiscard]] LoadHistory load_history(const RunFiles& run, size_t layer);
// Mean share per expert over the last quarter of the records; empty without any.
[[nodiscard]] std::vector<double> late_load(const RunFiles& run, size_t layer);

}  // namespace switchyard::report
