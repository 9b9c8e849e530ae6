// What the experts of one layer do: routing by category, similarity, and a passage. One layer is shown at a time.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/routing_figures.h"
#include "report/sections.h"
#include "report/svg_matrix.h"
#include "report/text.h"

namespace switchyard::report {
namespace {

constexpr size_t kMostTitledCells = 12000;  // of all layers; beyond, cells share paths and have no tooltips
constexpr size_t kMostTexts = 16;          // columns that leave room for a number in each cell

using Table = std::vector<std::vector<double>>;

std::vector<std::string> expert_labels(size_t num_experts) {
  std::vector<std::string> labels(num_experts);
  const size_t stride = num_experts <= kMostTexts ? 1 : num_experts <= 32 ? 2 : num_experts <= 64 ? 4 : 16;
  for (size_t e = 0; e < num_experts; e += stride) labels[e] = std::to_string(e);
  return labels;
}

// Cells that fill about half the page, no smaller than can be told apart.
double cell_width(size_t columns) { return std::clamp(400.0 / static_cast<double>(std::max<size_t>(columns, 1)), 6.0, 46.0); }

std::string category_matrix(const RunFiles& run, size_t layer) {
  const Table& share = run.trace->category_share[layer];
  const size_t num_experts = share.empty() ? 0 : share[0].size();
  Matrix m;
  m.description = "Share of each category's choices per expert, " + run.layer_name(layer);
  m.column_name = "expert";
  m.cell_width = cell_width(num_experts);
  m.cell_height = 34;
  m.row_labels = run.trace->category_names;
  m.column_labels = expert_labels(num_experts);
  const bool texts = num_experts <= kMostTexts, titles = share.size() * num_experts * run.trace->layers.size() <= kMostTitledCells;
  for (size_t c = 0; c < share.size(); ++c) {
    std::vector<double> levels;
    std::vector<std::string> text, title;
    for (size_t e = 0; e < num_experts; ++e) {
      const double ratio = share[c][e] * static_cast<double>(num_experts);
      levels.push_back(ratio_level(ratio, 4));
      text.push_back(fixed(100 * share[c][e], 0));
      title.push_back(fmt::format("{} → expert {}\nshare of its choices: {}\nagainst uniform: {}×", run.trace->category_names[c], e, percent(share[c][e]), fixed(ratio, 2)));
    }
    m.level.push_back(levels);
    if (texts) m.text.push_back(text);
    if (titles) m.title.push_back(title);
  }
  return draw(m);
}

std::string similarity_matrix(const RunFiles& run, size_t layer) {
  const Table& cosine = run.trace->similarity[layer];
  const double largest = largest_off_diagonal(cosine);
  const size_t n = cosine.size();
  Matrix m;
  m.description = "Cosine similarity of the experts' output weights, " + run.layer_name(layer);
  m.column_name = "expert";
  m.cell_width = cell_width(n);
  m.cell_height = n <= 16 ? 30 : m.cell_width;
  m.row_labels = m.column_labels = expert_labels(n);
  const bool texts = n <= kMostTexts, titles = n * n * run.trace->layers.size() <= kMostTitledCells;
  for (size_t r = 0; r < n; ++r) {
    std::vector<double> levels;
    std::vector<std::string> text, title;
    for (size_t c = 0; c < n; ++c) {
      levels.push_back(r == c ? NAN : largest > 0 ? cosine[r][c] / largest : 0);
      text.push_back(r == c ? "" : fixed(cosine[r][c], 2));
      title.push_back(r == c ? fmt::format("expert {} with itself", r) : fmt::format("experts {} and {}\ncosine: {}", r, c, fixed(cosine[r][c], 4)));
    }
    m.level.push_back(levels);
    if (texts) m.text.push_back(text);
    if (titles) m.title.push_back(title);
  }
  std::string out = "<div class=\"scroll\">" + draw(m) + "</div>";
  if (largest > 0) {
    const std::string text = largest < 0.01 ? fmt::format("{:.1g}", largest) : fixed(largest, 2);
    out += scale_legend({{-1, "−" + text}, {-0.5, ""}, {0, "0"}, {0.5, ""}, {1, text}});
  }
  return out;
}

std::string layer_view(size_t layer, const std::string& body) {
  return fmt::format("<div data-layer=\"{}\"{}>{}</div>", layer, layer == 0 ? "" : " hidden=\"hidden\"", body);
}

std::string layer_bar(const RunFiles& run) {
  const size_t layers = run.num_moe_layers();
  std::string out = "<div class=\"bar\"><div class=\"choose\" role=\"group\" aria-label=\"Layer\"><span>Show</span>";
  for (size_t i = 0; i < layers; ++i)
    out += fmt::format("<button type=\"button\" data-choose-layer=\"{}\" aria-pressed=\"{}\">{}</button>", i, i == 0 ? "true" : "false", escape(run.layer_name(i)));
  return out + "</div></div>\n<noscript><p class=\"note\">Choosing another layer needs JavaScript; the first one is shown.</p></noscript>\n";
}

std::string categories_card(const RunFiles& run) {
  const Trace& trace = *run.trace;
  if (trace.category_share.empty() || trace.category_names.empty())
    return card("Routing by category", "", missing("No categories in trace.json."));
  std::string body;
  for (size_t i = 0; i < trace.category_share.size(); ++i) {
    const double bits = category_bits(trace.category_share[i]);
    body += layer_view(i, "<div class=\"scroll\">" + category_matrix(run, i) + "</div>" +
                              scale_legend({{-1, "≤ ¼×"}, {-0.5, "½×"}, {0, "uniform"}, {0.5, "2×"}, {1, "≥ 4×"}}) +
                              fmt::format("<p class=\"note\">Mutual information of category and expert: {} bits.</p>", fixed(bits, 3)));
  }
  return card("Routing by category", "Share of each category's routed choices in per cent; the colour compares it with the uniform share.", body);
}

std::string similarity_card(const RunFiles& run) {
  const Trace& trace = *run.trace;
  if (trace.similarity.empty()) return card("Expert similarity", "", missing("No similarity in trace.json."));
  std::string body;
  for (size_t i = 0; i < trace.similarity.size(); ++i) body += layer_view(i, similarity_matrix(run, i));
  return card("Expert similarity", "Cosine of the experts' output weights; the colours span the largest value of the layer.", body);
}

}  // namespace

Section routing_section(const RunFiles& run) {
  Section s{"routing", "What the experts do", "", ""};
  if (!run.trace) {
    s.body = missing("No trace.json: routing by category, the coloured passage and the similarity of the experts are not known.");
    return s;
  }
  if (run.num_moe_layers() == 0) {
    s.body = missing("trace.json names no MoE layer.");
    return s;
  }
  s.lead = "Measured on validation text, one layer at a time.";
  s.body = layer_bar(run) + "<div class=\"pair\">\n" + categories_card(run) + similarity_card(run) + "</div>\n<div class=\"below\">" + passage_html(run) + "</div>\n";
  return s;
}

}  // namespace switchyard::report
