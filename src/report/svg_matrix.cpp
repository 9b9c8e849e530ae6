#include "report/svg_matrix.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "report/svg_chart.h"
#include "report/text.h"

namespace switchyard::report {
namespace {

constexpr double kStrongest = 0.88;  // opacity of level 1; text on it must stay legible
constexpr size_t kLargeColumns = 8;  // more columns scroll sideways on a small screen instead of shrinking
constexpr int kShades = 12;          // shades per direction where cells share paths

// Class and opacity of a level.
std::string paint(double level) {
  if (std::isnan(level)) return "class=\"na\"";
  const double opacity = kStrongest * std::min(std::fabs(level), 1.0);
  return fmt::format("class=\"{}\" fill-opacity=\"{:.2f}\"", level < 0 ? "low" : "high", opacity);
}

struct Layout {
  double left = 0, top = 0, width = 0, height = 0;
};

Layout layout_of(const Matrix& m) {
  Layout l;
  double widest = 0;
  for (const std::string& label : m.row_labels) widest = std::max(widest, text_width(label, 12));
  l.left = std::ceil(std::min(widest, 160.0) + 8);
  const bool labelled = std::any_of(m.column_labels.begin(), m.column_labels.end(), [](const std::string& s) { return !s.empty(); });
  l.top = labelled ? 38 : 20;
  l.width = l.left + m.cell_width * static_cast<double>(m.column_labels.size()) + 2;
  l.height = l.top + m.cell_height * static_cast<double>(m.row_labels.size()) + 4;
  return l;
}

std::string labels_svg(const Matrix& m, const Layout& l) {
  std::string out = fmt::format("<text x=\"{:.1f}\" y=\"12\" class=\"name\">{}</text>", l.left, escape(m.column_name));
  if (!m.row_name.empty())
    out += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"name end\">{}</text>", l.left - 6, l.top - 8, escape(m.row_name));
  for (size_t c = 0; c < m.column_labels.size(); ++c)
    if (!m.column_labels[c].empty())
      out += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"tick mid\">{}</text>", l.left + (static_cast<double>(c) + 0.5) * m.cell_width,
                         l.top - 8, escape(m.column_labels[c]));
  for (size_t r = 0; r < m.row_labels.size(); ++r)
    if (!m.row_labels[r].empty())
      out += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"tick end\">{}</text>", l.left - 6,
                         l.top + (static_cast<double>(r) + 0.5) * m.cell_height + 4, escape(m.row_labels[r]));
  return out;
}

std::string separate_cells(const Matrix& m, const Layout& l) {
  std::string out;
  const double gap = m.cell_width >= 14 ? 1 : 0.5;
  for (size_t r = 0; r < m.level.size(); ++r)
    for (size_t c = 0; c < m.level[r].size(); ++c) {
      const double x = l.left + static_cast<double>(c) * m.cell_width, y = l.top + static_cast<double>(r) * m.cell_height;
      out += fmt::format("<g class=\"cell\"><rect {} x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" rx=\"{}\"/>", paint(m.level[r][c]),
                         x + gap, y + gap, m.cell_width - 2 * gap, m.cell_height - 2 * gap, m.cell_width >= 14 ? 2 : 0);
      if (!m.text.empty())
        out += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"tick mid ink\">{}</text>", x + m.cell_width / 2, y + m.cell_height / 2 + 4,
                           escape(m.text[r][c]));
      out += fmt::format("<title>{}</title></g>", escape(m.title[r][c]));
    }
  return out;
}

std::string shared_paths(const Matrix& m, const Layout& l) {
  std::map<int, std::string> paths;  // shade -> path data; kShades + 1 for NaN
  for (size_t r = 0; r < m.level.size(); ++r)
    for (size_t c = 0; c < m.level[r].size(); ++c) {
      const double v = m.level[r][c];
      const int shade = std::isnan(v) ? kShades + 1 : static_cast<int>(std::lround(std::clamp(v, -1.0, 1.0) * kShades));
      if (shade == 0) continue;
      paths[shade] += fmt::format("M{} {}h1v1h-1z", c, r);  // in units of cells
    }
  std::string out = fmt::format("<g transform=\"translate({:g} {:g}) scale({:g} {:g})\">", l.left, l.top, m.cell_width, m.cell_height);
  for (const auto& [shade, d] : paths)
    out += fmt::format("<path {} d=\"{}\"/>", paint(shade > kShades ? NAN : static_cast<double>(shade) / kShades), d);
  return out + fmt::format("</g><rect class=\"border\" x=\"{:g}\" y=\"{:g}\" width=\"{:g}\" height=\"{:g}\"/>", l.left, l.top, l.width - l.left - 2,
                           l.height - l.top - 4);
}

}  // namespace

std::string draw(const Matrix& m) {
  const Layout l = layout_of(m);
  std::string out = fmt::format("<svg class=\"chart matrix{}\" viewBox=\"0 0 {:g} {:g}\" width=\"{:g}\" height=\"{:g}\" role=\"img\" aria-label=\"{}\">",
                                m.column_labels.size() > kLargeColumns ? " large" : "", l.width, l.height, l.width, l.height, escape(m.description));
  return out + labels_svg(m, l) + (m.title.empty() ? shared_paths(m, l) : separate_cells(m, l)) + "</svg>";
}

std::string scale_legend(const std::vector<std::pair<double, std::string>>& steps) {
  constexpr double kWidth = 46, kHeight = 12;
  std::string out = fmt::format("<svg class=\"chart scale\" viewBox=\"0 0 {0:g} 30\" width=\"{0:g}\" height=\"30\" role=\"img\" aria-label=\"colour scale\">",
                                kWidth * static_cast<double>(steps.size()));
  for (size_t i = 0; i < steps.size(); ++i) {
    const double x = kWidth * static_cast<double>(i);
    out += fmt::format("<rect {} x=\"{:g}\" y=\"0\" width=\"{:g}\" height=\"{:g}\"/>", paint(steps[i].first), x, kWidth, kHeight);
    out += fmt::format("<text x=\"{:g}\" y=\"26\" class=\"tick mid\">{}</text>", x + kWidth / 2, escape(steps[i].second));
  }
  return out + fmt::format("<rect class=\"border\" x=\"0.5\" y=\"0.5\" width=\"{:g}\" height=\"{:g}\"/></svg>",
                           kWidth * static_cast<double>(steps.size()) - 1, kHeight - 1);
}

double ratio_level(double ratio, double full) {
  if (std::isnan(ratio)) return ratio;
  return ratio <= 0 ? -1 : std::clamp(std::log2(ratio) / std::log2(full), -1.0, 1.0);
}

}  // namespace switchyard::report
