// From run folders to figures. Means over the MoE layers; load, drops and entropy over the last tenth of the steps.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>

#include "base/files.h"
#include "report/json_fields.h"
#include "report/measures.h"
#include "report/routing_figures.h"

namespace switchyard::report {
namespace {

constexpr double kLateShare = 0.1;

double mean_of(const std::vector<double>& values) { return spread_of_values(values).mean; }

double last_loss(const RunFiles& run) { return run.evals.empty() ? NAN : run.evals.back().loss; }

// Mean over layers and late records of f(record, layer).
double late_mean(const RunFiles& run, const std::function<double(const TrainRecord&, size_t layer)>& f) {
  if (run.train.empty()) return NAN;
  const double from = (1 - kLateShare) * static_cast<double>(run.train.back().step);
  std::vector<double> values;
  for (const TrainRecord& r : run.train)
    for (size_t layer = 0; static_cast<double>(r.step) > from && layer < r.load_cv.size(); ++layer) values.push_back(f(r, layer));
  return mean_of(values);
}

double load_over_floor(const TrainRecord& r, size_t i) { return i < r.load_cv_floor.size() && r.load_cv_floor[i] > 0 ? r.load_cv[i] / r.load_cv_floor[i] : NAN; }
double dropped(const TrainRecord& r, size_t i) { return i < r.dropped.size() ? r.dropped[i] : NAN; }
double entropy(const TrainRecord& r, size_t i) { return i < r.entropy.size() ? r.entropy[i] : NAN; }

// The middle one: steps that load, warm up or wait are no measure.
double step_ms(const RunFiles& run) {
  std::vector<double> ms;
  for (const TrainRecord& r : run.train)
    if (r.step > 1 && r.tokens_per_s > 0) ms.push_back(1e3 * r.tokens / static_cast<double>(r.step) / r.tokens_per_s);
  return median(ms);
}

// 0: the expert says nothing of the domain; 1: as much as numbers of domains and experts allow.
double specialisation(const RunFiles& run) {
  if (!run.trace) return NAN;
  std::vector<double> values;
  for (const auto& share : run.trace->category_share) {
    if (share.size() < 2 || share[0].size() < 2) continue;
    values.push_back(category_bits(share) / std::log2(static_cast<double>(std::min(share.size(), share[0].size()))));
  }
  return mean_of(values);
}

double fluctuation(const RunFiles& run) {
  const auto file = std::filesystem::path(run.dir) / "routing_change.json";
  if (run.dir.empty() || !std::filesystem::exists(file)) return NAN;
  const Json json = parse_json(read_text_file(file), file.string());
  const JsonAt layers = child({json, file.string()}, "layers");
  expect_array(layers);
  std::vector<double> shares;
  for (size_t i = 0; i < layers.value.size(); ++i) shares.push_back(number_field(element(layers, i), "changed"));
  return mean_of(shares);
}

double info(const RunFiles& run, double RunInfo::*field) { return run.info ? (*run.info).*field : NAN; }

bool is_dense(const RunGroup& group) {
  return std::all_of(group.seeds.begin(), group.seeds.end(), [](const RunFiles& run) { return !run.train.empty() && run.num_moe_layers() == 0; });
}

// NaN without a dense recipe.
double dense_step_ms(const std::vector<RunGroup>& groups) {
  const auto dense = std::find_if(groups.begin(), groups.end(), is_dense);
  if (dense == groups.end()) return NAN;
  std::vector<double> ms;
  for (const RunFiles& run : dense->seeds) ms.push_back(step_ms(run));
  return mean_of(ms);
}

using Take = std::function<double(const RunFiles&)>;

std::vector<std::pair<Measure, Take>> run_measures(double dense_ms) {
  using F = Measure::Form;
  constexpr double kBytesOfState = 16;  // weight, gradient and two moments in float32
  return {
      {{F::decimals, "loss", "loss", "Validation loss at the end, nats per token.", 4, true}, last_loss},
      {{F::decimals, "bits_per_byte", "bits/byte", "The same per byte of text: comparable across tokenizers.", 4, false},
       [](const RunFiles& r) { return r.evals.empty() ? NAN : r.evals.back().bits_per_byte; }},
      {{F::decimals, "load_over_floor", "load CV/floor", "Coefficient of variation of the load over what chance alone would give; mean over layers and the last tenth of the steps.", 2, true},
       [](const RunFiles& r) { return late_mean(r, load_over_floor); }},
      {{F::percent, "dropped", "dropped", "Share of the (token, choice) pairs beyond the capacity of their expert; as before.", 3, false},
       [](const RunFiles& r) { return late_mean(r, dropped); }},
      {{F::decimals, "entropy", "entropy", "Mean entropy of the router's probabilities, nats; as before.", 3, false}, [](const RunFiles& r) { return late_mean(r, entropy); }},
      {{F::percent, "fluctuation", "moved", "Share of validation tokens whose first expert is another one at the end than half-way.", 3, true}, fluctuation},
      {{F::decimals, "specialisation", "specialisation", "Mutual information of domain and expert over its greatest possible value.", 3, true}, specialisation},
      {{F::decimals, "step_ms", "ms/step", "Time of an optimiser step, median over the logged steps.", 1, true}, step_ms},
      {{F::decimals, "step_over_dense", "x dense", "That time over the one of the first dense recipe.", 2, false}, [dense_ms](const RunFiles& r) { return step_ms(r) / dense_ms; }},
      {{F::count, "parameters", "parameters", "In total.", 3, false}, [](const RunFiles& r) { return info(r, &RunInfo::params_total); }},
      {{F::count, "active_parameters", "active", "Parameters that work for a token.", 3, false}, [](const RunFiles& r) { return info(r, &RunInfo::params_active); }},
      {{F::count, "flops_per_token", "FLOPs/token", "Forward, multiply and add counted as two.", 3, false}, [](const RunFiles& r) { return info(r, &RunInfo::flops_per_token); }},
      {{F::count, "state_bytes", "state bytes", "Weights, gradients and optimiser moments in memory.", 3, false},
       [](const RunFiles& r) { return kBytesOfState * info(r, &RunInfo::params_total); }},
  };
}

}  // namespace

MeasureTable measure_runs(const std::vector<RunGroup>& groups) {
  MeasureTable table;
  const auto measures = run_measures(dense_step_ms(groups));
  for (const auto& [measure, take] : measures) table.measures.push_back(measure);
  for (const RunGroup& group : groups) {
    MeasureRow row{group.name, group.seeds.size(), {}};
    for (const auto& [measure, take] : measures) {
      auto& values = row.values.emplace_back();
      for (const RunFiles& run : group.seeds) values.push_back(take(run));
    }
    table.rows.push_back(std::move(row));
  }
  drop_unmeasured(table);
  return table;
}

}  // namespace switchyard::report
