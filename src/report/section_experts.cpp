// Load of experts over time and how far it is from random routing.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/palette.h"
#include "report/sections.h"
#include "report/svg_chart.h"
#include "report/svg_matrix.h"
#include "report/svg_shares.h"
#include "report/text.h"

namespace switchyard::report {
namespace {

constexpr size_t kMostBands = 16;      // beyond, bands are too thin to see: one row per expert instead
constexpr size_t kStripColumns = 60;

const std::vector<std::pair<double, std::string>> kRatioSteps = {{-1, "≤ ¼×"}, {-0.5, "½×"}, {0, "1×"}, {0.5, "2×"}, {1, "≥ 4×"}};

std::string load_bands(const LoadHistory& history, const std::string& name, bool small) {
  ShareChart chart;
  if (small) chart.width = 240;
  chart.description = "Share of routed choices per expert over steps, " + name;
  chart.x = history.steps;
  chart.share = history.share;
  return draw(chart);
}

std::string load_strip(const LoadHistory& history, const std::string& name, bool small) {
  std::vector<double> steps = history.steps;
  auto rows = history.share;
  average_rows(steps, rows, kStripColumns);
  const size_t num_experts = rows[0].size();
  Matrix m;
  m.description = "Load of every expert over steps against the uniform share, " + name;
  m.column_name = fmt::format("steps {:g} to {:g}", steps.front(), steps.back());
  m.cell_width = (small ? 210.0 : 280.0) / static_cast<double>(rows.size());
  m.cell_height = std::max(2.0, 192.0 / static_cast<double>(num_experts));
  m.column_labels.resize(rows.size());
  m.row_labels.resize(num_experts);
  for (size_t e = 0; e < num_experts; e += std::max<size_t>(1, num_experts / 8)) m.row_labels[e] = std::to_string(e);
  m.level.assign(num_experts, std::vector<double>(rows.size()));
  for (size_t e = 0; e < num_experts; ++e)
    for (size_t n = 0; n < rows.size(); ++n) m.level[e][n] = ratio_level(rows[n][e] * static_cast<double>(num_experts), 4);
  return draw(m);
}

// Late extremes of one layer, as a line below its title.
std::string load_about(const RunFiles& run, size_t layer) {
  const std::vector<double> load = late_load(run, layer);
  const auto [low, high] = std::minmax_element(load.begin(), load.end());
  const double n = static_cast<double>(load.size());
  return fmt::format("last quarter: {}× to {}× uniform", fixed(*low * n, 2), fixed(*high * n, 2));
}

std::string expert_legend(size_t num_experts) {
  std::vector<LegendItem> items;
  for (size_t e = 0; e < num_experts; ++e) items.push_back({fmt::format("rgb(var(--e{}))", e), fmt::format("{}{}", e == 0 ? "expert " : "", e), ""});
  return legend(items);
}

// One line per layer, coloured by depth.
std::vector<Line> layer_lines(const RunFiles& run, std::vector<double> TrainRecord::*field, const std::vector<double> TrainRecord::*divide_by) {
  std::vector<Line> lines;
  const size_t layers = run.num_moe_layers();
  for (size_t layer = 0; layer < layers; ++layer) {
    Series points;
    for (const TrainRecord& r : run.train) {
      if (layer >= (r.*field).size()) continue;
      double y = (r.*field)[layer];
      if (divide_by != nullptr) y = layer < (r.*divide_by).size() && (r.*divide_by)[layer] > 0 ? y / (r.*divide_by)[layer] : NAN;
      points.push_back({static_cast<double>(r.step), y});
    }
    points = finite(points);
    if (points.empty()) continue;
    points = thin(smooth(points, points.size() / 50), 300);
    lines.push_back({run.layer_name(layer), "own", depth_colour(layer, layers), points, {}, false});
  }
  return lines;
}

std::string lines_card(const std::string& title, const std::string& about, LineChart chart, const std::string& otherwise) {
  chart.description = title + " against steps";
  if (chart.lines.empty()) return card(title, "", missing(otherwise));
  return card(title, about, draw(chart));
}

std::string cv_card(const RunFiles& run) {
  LineChart chart;
  chart.lines = layer_lines(run, &TrainRecord::load_cv, &TrainRecord::load_cv_floor);
  chart.y_unit = Unit::times;
  chart.y_label = "load CV / floor";
  chart.y_from_zero = true;
  chart.references = {{1, "", true}};
  if (chart.lines.empty()) {
    chart.lines = layer_lines(run, &TrainRecord::load_cv, nullptr);
    chart.y_unit = Unit::plain;
    chart.y_label = "load CV (no floor recorded)";
    chart.references.clear();
  }
  return lines_card("Load CV over its floor", "Spread of the expert loads (standard deviation / mean) as a multiple of what uniform random choices would give (dashed).",
                    chart, "No load_cv in metrics.jsonl.");
}

std::string dropped_card(const RunFiles& run) {
  LineChart chart;
  chart.lines = layer_lines(run, &TrainRecord::dropped, nullptr);
  chart.y_unit = Unit::percent;
  chart.y_label = "share of choices";
  chart.y_from_zero = true;
  bool any = false;
  for (const Line& line : chart.lines)
    for (const Point& p : line.points) any = any || p.y > 0;
  if (!chart.lines.empty() && !any) return card("Dropped", "Choices beyond an expert's capacity.", "<p class=\"missing\">None: nothing was dropped at any recorded step.</p>");
  return lines_card("Dropped", "Choices beyond an expert's capacity.", chart, "No dropped fractions in metrics.jsonl.");
}

std::string entropy_card(const RunFiles& run) {
  LineChart chart;
  chart.lines = layer_lines(run, &TrainRecord::entropy, nullptr);
  chart.y_label = "nats";
  chart.y_from_zero = true;
  return lines_card("Router entropy", "Of the gate's probabilities, mean over tokens: lower is more decided.", chart, "No router entropy in metrics.jsonl.");
}

std::string aux_card(const RunFiles& run, const std::string& name) {
  LineChart chart;
  Series raw, weighted;
  for (const TrainRecord& r : run.train)
    for (const AuxLoss& aux : r.aux)
      if (aux.name == name) {
        raw.push_back({static_cast<double>(r.step), aux.raw});
        weighted.push_back({static_cast<double>(r.step), aux.weighted});
      }
  raw = finite(raw);
  weighted = finite(weighted);
  if (!raw.empty()) chart.lines.push_back({name, "s3", "", thin(smooth(raw, raw.size() / 50), 300), {}, false});
  chart.y_label = "raw value";
  const std::string about = weighted.empty() ? "" : fmt::format("Last weighted value, as added to the loss: {:.3g}", weighted.back().y);
  return lines_card("Auxiliary loss: " + name, about, chart, "No finite value of this loss in metrics.jsonl.");
}

std::string depth_legend(const RunFiles& run) {
  const size_t layers = run.num_moe_layers();
  std::vector<LegendItem> items;
  const size_t stride = std::max<size_t>(1, (layers + 7) / 8);
  for (size_t i = 0; i < layers; i += stride) items.push_back({depth_colour(i, layers), run.layer_name(i)});
  if (layers > 0 && (layers - 1) % stride != 0) items.push_back({depth_colour(layers - 1, layers), run.layer_name(layers - 1)});
  return items.empty() ? "" : legend(items);
}

}  // namespace

Section load_section(const RunFiles& run) {
  Section s{"load", "Expert load over time", "", ""};
  std::vector<std::string> cards;
  size_t most = 0;
  bool strips = false;
  const bool small = rows_of_four(run.num_moe_layers());
  for (size_t layer = 0; layer < run.num_moe_layers(); ++layer) {
    const LoadHistory history = load_history(run, layer);
    if (history.share.empty()) continue;
    const std::string name = run.layer_name(layer);
    const size_t num_experts = history.share[0].size();
    const bool strip = num_experts > kMostBands;
    strips = strips || strip;
    if (!strip) most = std::max(most, num_experts);
    cards.push_back(card(name, load_about(run, layer), strip ? load_strip(history, name, small) : load_bands(history, name, small)));
  }
  if (cards.empty()) {
    s.body = missing("No expert load in metrics.jsonl: this run has no MoE layer, or did not record its load.");
    return s;
  }
  s.lead = most > 0 ? "Share of the routed choices that each expert receives. Dashed lines: where the borders lie when all experts receive the same."
                    : "One row per expert: its share of the routed choices as a multiple of the uniform share.";
  if (most > 0) s.body += expert_legend(most);
  if (strips) s.body += scale_legend(kRatioSteps);
  s.body += card_grid(cards);
  return s;
}

Section balance_section(const RunFiles& run) {
  Section s{"balance", "Balance and losses of the gate", "", ""};
  if (run.num_moe_layers() == 0) {
    s.body = missing("No figures of MoE layers in metrics.jsonl.");
    return s;
  }
  s.body = depth_legend(run) + "<div class=\"grid3\">\n" + cv_card(run) + dropped_card(run) + entropy_card(run);
  std::vector<std::string> names;
  for (const TrainRecord& r : run.train)
    for (const AuxLoss& aux : r.aux)
      if (std::find(names.begin(), names.end(), aux.name) == names.end()) names.push_back(aux.name);
  for (const std::string& name : names) s.body += aux_card(run, name);
  s.body += "</div>\n";
  return s;
}

}  // namespace switchyard::report
