// Sentences about a run by fixed rules. "Late" means the mean over the last quarter of the train records.
//   validation  last against lowest: a rise beyond two standard errors is named
//   balance     late share of an expert: above 2x uniform is heavy, below 0.1x is idle
//   dropped     late share above 1 % is named
//   categories  mutual information of category and expert, all categories weighted alike
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/routing_figures.h"
#include "report/sections.h"
#include "report/text.h"

namespace switchyard::report {
namespace {

constexpr double kHeavy = 2.0, kIdle = 0.1, kDropped = 0.01;
constexpr size_t kNamedExperts = 6;

using Kind = Finding::Kind;

void add_validation(const RunFiles& run, std::vector<Finding>& out) {
  const EvalRecord *first = nullptr, *last = nullptr, *best = nullptr;
  for (const EvalRecord& e : run.evals) {
    if (!std::isfinite(e.loss)) continue;
    if (first == nullptr) first = &e;
    if (best == nullptr || e.loss < best->loss) best = &e;
    last = &e;
  }
  if (last == nullptr || first == last) return;
  const double margin = std::isfinite(last->loss_se) ? 2 * last->loss_se : 0.01 * best->loss;
  if (last->loss > best->loss + margin) {
    out.push_back({Kind::warn, fmt::format("Validation loss was lowest at step {} ({}) and is {} at the last evaluation: the run went on too long, or its "
                                           "learning rate is too high.",
                                           best->step, fixed(best->loss, 3), fixed(last->loss, 3))});
    return;
  }
  out.push_back({Kind::good, fmt::format("Validation loss fell from {} at step {} to {} at step {}.", fixed(first->loss, 3), first->step,
                                         fixed(last->loss, 3), last->step)});
}

std::string name_experts(const std::vector<std::string>& names) {
  std::string out;
  for (size_t i = 0; i < std::min(names.size(), kNamedExperts); ++i) out += (i > 0 ? ", " : "") + names[i];
  if (names.size() > kNamedExperts) out += fmt::format(" and {} more", names.size() - kNamedExperts);
  return out;
}

void add_balance(const RunFiles& run, std::vector<Finding>& out) {
  std::vector<std::string> heavy, idle;
  double lowest = INFINITY, highest = 0;
  for (size_t layer = 0; layer < run.num_moe_layers(); ++layer) {
    const std::vector<double> load = late_load(run, layer);
    for (size_t e = 0; e < load.size(); ++e) {
      const double ratio = load[e] * static_cast<double>(load.size());
      lowest = std::min(lowest, ratio);
      highest = std::max(highest, ratio);
      if (ratio > kHeavy) heavy.push_back(fmt::format("expert {} of {} ({}×)", e, run.layer_name(layer), fixed(ratio, 1)));
      if (ratio < kIdle) idle.push_back(fmt::format("expert {} of {} ({}×)", e, run.layer_name(layer), fixed(ratio, 2)));
    }
  }
  if (highest == 0) return;
  if (heavy.empty() && idle.empty())
    out.push_back({Kind::good, fmt::format("Every expert is in use: late shares lie between {}× and {}× the uniform share.", fixed(lowest, 2), fixed(highest, 2))});
  if (!idle.empty()) out.push_back({Kind::warn, "Almost idle, against the uniform share: " + name_experts(idle) + "."});
  if (!heavy.empty()) out.push_back({Kind::warn, "Heavily loaded, against the uniform share: " + name_experts(heavy) + "."});
}

void add_dropped(const RunFiles& run, std::vector<Finding>& out) {
  double worst = -1;
  size_t worst_layer = 0;
  for (size_t layer = 0; layer < run.num_moe_layers(); ++layer) {
    const Series s = layer_series(run, &TrainRecord::dropped, layer);
    const size_t late = (s.size() + 3) / 4;
    double mean = 0;
    for (size_t i = s.size() - late; i < s.size(); ++i) mean += s[i].y / static_cast<double>(late);
    if (late == 0 || mean <= worst) continue;
    worst = mean;
    worst_layer = layer;
  }
  if (worst < 0) return;
  if (worst == 0)
    out.push_back({Kind::good, "No choice was dropped in the last quarter."});
  else
    out.push_back({worst > kDropped ? Kind::warn : Kind::info,
                   fmt::format("Capacity drops {} of the choices in {}, more than in any other layer.", percent(worst), run.layer_name(worst_layer))});
}

void add_categories(const RunFiles& run, std::vector<Finding>& out) {
  if (!run.trace || run.trace->category_share.empty() || run.trace->category_names.size() < 2) return;
  double most = -1;
  size_t where = 0;
  for (size_t layer = 0; layer < run.trace->category_share.size(); ++layer)
    if (const double bits = category_bits(run.trace->category_share[layer]); bits > most) {
      most = bits;
      where = layer;
    }
  if (most < 0) return;
  out.push_back({Kind::info, fmt::format("Routing follows the text's category most in {}: the expert tells {} bits of the {} bits that name one of {} categories.",
                                         run.layer_name(where), fixed(most, 3), fixed(std::log2(static_cast<double>(run.trace->category_names.size())), 2),
                                         run.trace->category_names.size())});
}

void add_events(const RunFiles& run, std::vector<Finding>& out) {
  for (const EventRecord& e : run.events)
    if (e.what == "interrupted" || e.what == "resume")
      out.push_back({Kind::info, fmt::format("{} at step {}.", e.what == "resume" ? "Resumed" : "Interrupted", e.step)});
  for (const std::string& note : run.notes) out.push_back({Kind::info, note});
}

void add_missing(const RunFiles& run, std::vector<Finding>& out) {
  std::string files;
  const auto lacks = [&](bool missing, const char* what) {
    if (missing) files += (files.empty() ? "" : "; ") + std::string(what);
  };
  lacks(run.train.empty() && run.evals.empty(), "metrics.jsonl (losses, expert load, speed)");
  lacks(!run.info, "run.json (recipe, command, model)");
  lacks(!run.trace, "trace.json (routing of validation text)");
  lacks(!run.sample, "sample.txt (generated text)");
  if (!files.empty()) out.push_back({Kind::info, "Not in this run: " + files + "."});
}

}  // namespace

std::vector<Finding> findings(const RunFiles& run) {
  std::vector<Finding> out;
  add_validation(run, out);
  add_balance(run, out);
  add_dropped(run, out);
  add_categories(run, out);
  add_events(run, out);
  add_missing(run, out);
  return out;
}

}  // namespace switchyard::report
