#include "report/svg_bars.h"

#include <fmt/format.h>

#include <algorithm>

#include "report/text.h"

namespace switchyard::report {
namespace {

constexpr double kBarsTop = 4, kBarsBottom = 24, kRow = 38, kText = 14, kBar = 12, kSide = 14;

std::string bar_svg(const Bar& bar, double top, double width, const Axis& axis) {
  const auto px = [&](double v) { return kSide + axis.place(std::clamp(v, axis.low, axis.high), width); };
  const double y = top + kText + 4, middle = y + kBar / 2;
  std::string out = fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"name\">{}</text><text x=\"{:.1f}\" y=\"{:.1f}\" class=\"tick end\">{}</text>", kSide,
                                top + kText - 2, escape(bar.label), kSide + width, top + kText - 2, escape(bar.value));
  out += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.0f}\" rx=\"2\" style=\"fill:var(--s{})\"/>", kSide, y, px(bar.mean) - kSide, kBar,
                     bar.colour);
  if (bar.high > bar.low)
    out += fmt::format("<path class=\"axis\" style=\"stroke:var(--ink)\" d=\"M{:.1f} {:.1f}H{:.1f}M{:.1f} {:.1f}v6M{:.1f} {:.1f}v6\"/>", px(bar.low), middle, px(bar.high),
                       px(bar.low), middle - 3, px(bar.high), middle - 3);
  return out;
}

}  // namespace

std::string draw(const BarChart& chart) {
  const double width = chart.width - 2 * kSide, height = kBarsTop + kRow * static_cast<double>(std::max<size_t>(1, chart.bars.size())) + kBarsBottom;
  std::string out = fmt::format("<svg class=\"chart\" viewBox=\"0 0 {:.0f} {:.0f}\" role=\"img\" aria-label=\"{}\">", chart.width, height, escape(chart.description));
  if (chart.bars.empty()) return out + fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"name mid\">no values</text></svg>", chart.width / 2, height / 2);
  double greatest = 0;
  for (const Bar& bar : chart.bars) greatest = std::max(greatest, bar.high);
  const Axis axis = make_axis(0, greatest, 4, chart.unit, true);
  const double bottom = height - kBarsBottom;
  for (size_t i = 0; i < axis.ticks.size(); ++i) {
    const double x = kSide + axis.place(axis.ticks[i], width);
    out += fmt::format("<path class=\"{}\" d=\"M{:.1f} {:.1f}V{:.1f}\"/>", i == 0 ? "axis" : "grid", x, kBarsTop, bottom);
    const std::string scale = i + 1 == axis.ticks.size() && !axis.scale.empty() ? " " + axis.scale : "";
    out += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"tick mid\">{}</text>", x, bottom + 16, escape(axis.labels[i] + scale));
  }
  for (size_t i = 0; i < chart.bars.size(); ++i) out += bar_svg(chart.bars[i], kBarsTop + kRow * static_cast<double>(i), width, axis);
  return out + "</svg>";
}

}  // namespace switchyard::report
