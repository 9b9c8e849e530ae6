#include "report/svg_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "report/page_assets.h"
#include "report/text.h"

namespace switchyard::report {
namespace {

constexpr double kFont = 12, kTickGap = 6, kChartBottom = 38, kHoverStops = 90;

// Where the plot lies in the picture, and its two axes.
struct Frame {
  double left = 0, top = 0, width = 0, height = 0;
  Axis x, y;
  [[nodiscard]] double px(double v) const { return left + x.place(v, width); }
  [[nodiscard]] double py(double v) const { return top + height - y.place(v, height); }
};

struct Range {
  double low = std::numeric_limits<double>::infinity(), high = -std::numeric_limits<double>::infinity();
  void add(double v) {
    if (!std::isfinite(v)) return;
    low = std::min(low, v);
    high = std::max(high, v);
  }
  [[nodiscard]] bool empty() const { return high < low; }
};

void add_ranges(const LineChart& chart, Range& x, Range& y) {
  for (const Line& line : chart.lines)
    for (size_t i = 0; i < line.points.size(); ++i) {
      const Point& p = line.points[i];
      if (!std::isfinite(p.y)) continue;
      const double e = i < line.errors.size() && std::isfinite(line.errors[i]) ? line.errors[i] : 0;
      x.add(p.x);
      y.add(p.y - e);
      y.add(p.y + e);
    }
  for (const Band& band : chart.bands)
    for (const SpreadPoint& p : band.points) {
      x.add(p.x);
      y.add(p.low);
      y.add(p.high);
    }
  if (y.empty()) return;
  for (const Reference& r : chart.references) (r.horizontal ? y : x).add(r.at);
  if (chart.y_from_zero) y.add(0);
}

double end_label_room(const LineChart& chart) {
  double room = 14;
  if (!chart.label_ends) return room;
  for (const Line& line : chart.lines)
    if (!line.label.empty()) room = std::max(room, text_width(line.label, kFont) + 16);
  return std::min(room, 0.4 * chart.width);
}

Frame make_frame(const LineChart& chart, const Range& x, const Range& y) {
  Frame f;
  f.top = (chart.title.empty() ? 0 : 30) + (chart.subtitle.empty() ? 0 : 20) + (chart.title.empty() ? 26 : 36);
  f.height = chart.height - f.top - kChartBottom;
  f.y = make_axis(y.low, y.high, std::max(3, static_cast<int>(f.height / 30) + 1), chart.y_unit, true);
  double widest = 0;
  for (const std::string& label : f.y.labels) widest = std::max(widest, text_width(label, kFont));
  f.left = std::ceil(widest + kTickGap + 2);
  f.width = chart.width - f.left - end_label_room(chart);
  f.x = make_axis(from_zero_if_near(x.low, x.high), x.high, std::clamp(static_cast<int>(f.width / 45), 3, 9), chart.x_unit, false);
  return f;
}

std::string with_scale(const std::string& label, const Axis& axis) {
  return axis.scale.empty() ? label : fmt::format("{} ({})", label, axis.scale);
}

std::string text_element(double x, double y, std::string_view css, std::string_view text) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"{}\">{}</text>", x, y, css, escape(text));
}

std::string axes_svg(const LineChart& chart, const Frame& f) {
  std::string out;
  for (size_t i = 0; i < f.y.ticks.size(); ++i) {
    const double y = f.py(f.y.ticks[i]);
    out += fmt::format("<path class=\"{}\" d=\"M{:.1f} {:.1f}h{:.1f}\"/>", i == 0 ? "axis" : "grid", f.left, y, f.width);
    out += text_element(f.left - kTickGap, y + 4, "tick end", f.y.labels[i]);
  }
  for (size_t i = 0; i < f.x.ticks.size(); ++i) {
    const double x = f.px(f.x.ticks[i]);
    out += fmt::format("<path class=\"axis\" d=\"M{:.1f} {:.1f}v4\"/>", x, f.top + f.height);
    out += text_element(x, f.top + f.height + 17, "tick mid", f.x.labels[i]);
  }
  out += text_element(0, f.top - 13, "name", with_scale(chart.y_label, f.y));
  out += text_element(f.left + f.width / 2, f.top + f.height + 34, "name mid", with_scale(chart.x_label, f.x));
  return out;
}

std::string band_svg(const Band& band, const Frame& f) {
  if (band.points.empty()) return "";
  Series outline;
  for (const SpreadPoint& p : band.points) outline.push_back({f.px(p.x), f.py(p.high)});
  for (auto p = band.points.rbegin(); p != band.points.rend(); ++p) outline.push_back({f.px(p->x), f.py(p->low)});
  return fmt::format("<path class=\"band {}\" d=\"{}Z\"/>", band.css, path_data(outline));
}

std::string line_svg(const Line& line, const Frame& f) {
  Series pixels;
  for (const Point& p : line.points) pixels.push_back({f.px(p.x), f.py(p.y)});
  const std::string style = line.colour.empty() ? "" : fmt::format(" style=\"--c:{}\"", line.colour);
  std::string out = fmt::format("<g class=\"{}\"{}>", line.css, style);
  for (size_t i = 0; i < line.errors.size() && i < pixels.size(); ++i)
    if (std::isfinite(pixels[i].y) && std::isfinite(line.errors[i]))
      out += fmt::format("<path class=\"err\" d=\"M{:.1f} {:.1f}V{:.1f}\"/>", pixels[i].x, f.py(line.points[i].y - line.errors[i]),
                         f.py(line.points[i].y + line.errors[i]));
  if (pixels.size() > 1) out += fmt::format("<path class=\"line\" d=\"{}\"/>", path_data(pixels));
  if (line.dots || pixels.size() == 1)
    for (const Point& p : pixels)
      if (std::isfinite(p.y)) out += fmt::format("<circle class=\"dot\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\"/>", p.x, p.y);
  return out + "</g>";
}

std::string reference_line_svg(const Reference& r, const Frame& f) {
  if (r.horizontal) return fmt::format("<path class=\"ref\" d=\"M{:.1f} {:.1f}h{:.1f}\"/>", f.left, f.py(r.at), f.width);
  return fmt::format("<path class=\"ref\" d=\"M{:.1f} {:.1f}v{:.1f}\"/>", f.px(r.at), f.top, f.height);
}

// Distance in pixels from the height `y` to the nearest point of any line between two x.
double clearance(const LineChart& chart, const Frame& f, double y, double from, double to) {
  double nearest = std::min(y - f.top, f.top + f.height - y);
  for (const Line& line : chart.lines)
    for (const Point& p : line.points)
      if (std::isfinite(p.y) && f.px(p.x) >= from && f.px(p.x) <= to) nearest = std::min(nearest, std::fabs(f.py(p.y) - y));
  return nearest;
}

// The name of a reference line where the lines of the chart leave most room: at the left or right end, above or below.
std::string reference_label_svg(const LineChart& chart, const Reference& r, const Frame& f) {
  const double right = f.left + f.width;
  if (!r.horizontal) {
    const double x = f.px(r.at);
    const bool before = x > f.left + f.width / 2;
    return text_element(x + (before ? -5 : 5), f.top + 11, before ? "reflabel end" : "reflabel", r.label);
  }
  const double width = text_width(r.label, kFont), y = f.py(r.at);
  double best = -1, best_y = y - 5;
  bool at_end = true;
  for (const bool end : {true, false})
    for (const double baseline : {y - 5, y + 15}) {
      const double from = end ? right - width : f.left;
      const double room = clearance(chart, f, baseline - 4, from, from + width);
      if (room <= best) continue;
      best = room;
      best_y = baseline;
      at_end = end;
    }
  return text_element(at_end ? right : f.left + 4, best_y, at_end ? "reflabel end" : "reflabel", r.label);
}

// Names at the right ends, pushed apart downwards and then back up where the lowest ones left the plot.
std::string end_labels_svg(const LineChart& chart, const Frame& f) {
  struct Label {
    double y;
    const Line* line;
  };
  std::vector<Label> labels;
  for (const Line& line : chart.lines) {
    const Series points = finite(line.points);
    if (!line.label.empty() && !points.empty()) labels.push_back({f.py(points.back().y), &line});
  }
  std::sort(labels.begin(), labels.end(), [](const Label& a, const Label& b) { return a.y < b.y; });
  constexpr double kGap = 15;
  for (size_t i = 1; i < labels.size(); ++i) labels[i].y = std::max(labels[i].y, labels[i - 1].y + kGap);
  double limit = f.top + f.height;
  for (auto label = labels.rbegin(); label != labels.rend(); ++label, limit -= kGap) label->y = std::min(label->y, limit);
  std::string out;
  for (const Label& label : labels)
    out += text_element(f.left + f.width + 8, label.y + 4, "endlabel " + label.line->css, label.line->label);
  return out;
}

std::string value_text(double v, Unit unit, int decimals) {
  switch (unit) {
    case Unit::percent: return percent(v);
    case Unit::times: return fixed(v, 2) + "×";
    case Unit::seconds: return duration(v);
    case Unit::plain: break;
  }
  const double size = std::fabs(v);
  if (size >= 1e4) return short_number(v);
  return size > 0 && size < 0.01 ? fmt::format("{:.3g}", v) : fixed(v, decimals);
}

std::string hover_text(const LineChart& chart, double x) {
  const std::string at = chart.x_unit == Unit::seconds ? duration(x) : fmt::format("{} {:g}", chart.x_label, x);
  std::vector<std::pair<std::string, double>> values;
  for (const Line& line : chart.lines)
    if (const double y = value_at(finite(line.points), x); !line.label.empty() && std::isfinite(y)) values.emplace_back(line.label, y);
  if (values.empty()) return "";
  const auto show = [&](double v) { return value_text(v, chart.y_unit, chart.value_decimals); };
  std::string out = at;
  if (values.size() <= 8) {
    for (const auto& [label, v] : values) out += fmt::format("\n{}: {}", label, show(v));
    return out;
  }
  const auto [low, high] = std::minmax_element(values.begin(), values.end(), [](auto& a, auto& b) { return a.second < b.second; });
  return out + fmt::format("\nlowest {}: {}\nhighest {}: {}", low->first, show(low->second), high->first, show(high->second));
}

// Invisible columns, one per recorded x (thinned), which show a rule and a tooltip under the pointer.
std::string hover_svg(const LineChart& chart, const Frame& f) {
  std::vector<double> xs;
  for (const Line& line : chart.lines)
    if (!line.label.empty())
      for (const Point& p : line.points)
        if (std::isfinite(p.y)) xs.push_back(p.x);
  std::sort(xs.begin(), xs.end());
  xs.erase(std::unique(xs.begin(), xs.end()), xs.end());
  const size_t stride = static_cast<size_t>(std::ceil(static_cast<double>(xs.size()) / kHoverStops));
  std::vector<double> stops;
  for (size_t i = xs.size(); i > 0; i -= std::min(i, stride)) stops.push_back(xs[i - 1]);
  std::reverse(stops.begin(), stops.end());
  std::string out;
  for (size_t i = 0; i < stops.size(); ++i) {
    const std::string text = hover_text(chart, stops[i]);
    if (text.empty()) continue;
    const double x = f.px(stops[i]);
    const double from = i == 0 ? f.left : 0.5 * (f.px(stops[i - 1]) + x);
    const double to = i + 1 == stops.size() ? f.left + f.width : 0.5 * (f.px(stops[i + 1]) + x);
    out += fmt::format("<g class=\"hit\"><rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\"/>", from, f.top,
                       std::max(to - from, 0.5), f.height);
    out += fmt::format("<path d=\"M{:.1f} {:.1f}v{:.1f}\"/><title>{}</title></g>", x, f.top, f.height, escape(text));
  }
  return out;
}

std::string open_svg(const LineChart& chart, double padding) {
  const double width = chart.width + 2 * padding, height = chart.height + 2 * padding;
  std::string out = fmt::format(
      "<svg{} class=\"chart\" viewBox=\"{:g} {:g} {:g} {:g}\" width=\"{:g}\" height=\"{:g}\" role=\"img\" aria-label=\"{}\">",
      padding > 0 ? " xmlns=\"http://www.w3.org/2000/svg\"" : "", -padding, -padding, width, height, width, height,
      escape(chart.description));
  if (padding > 0)
    out += fmt::format("<style>{}</style><rect x=\"{:g}\" y=\"{:g}\" width=\"{:g}\" height=\"{:g}\" fill=\"var(--card)\"/>", chart_css(),
                       -padding, -padding, width, height);
  if (!chart.title.empty()) out += text_element(0, 20, "title", chart.title);
  if (!chart.subtitle.empty()) out += text_element(0, 42, "name", chart.subtitle);
  return out;
}

std::string draw_padded(const LineChart& chart, double padding) {
  Range x, y;
  add_ranges(chart, x, y);
  std::string out = open_svg(chart, padding);
  if (y.empty()) return out + text_element(chart.width / 2, chart.height / 2, "name mid", "no values") + "</svg>";
  const Frame f = make_frame(chart, x, y);
  out += axes_svg(chart, f);
  for (const Reference& r : chart.references) out += reference_line_svg(r, f);
  for (const Band& band : chart.bands) out += band_svg(band, f);
  for (const Line& line : chart.lines) out += line_svg(line, f);
  for (const Reference& r : chart.references) out += reference_label_svg(chart, r, f);
  if (chart.label_ends) out += end_labels_svg(chart, f);
  return out + hover_svg(chart, f) + "</svg>";
}

}  // namespace

std::string path_data(const Series& pixels) {
  std::string out;
  bool open = false;
  for (const Point& p : pixels) {
    if (!std::isfinite(p.x) || !std::isfinite(p.y)) {
      open = false;
      continue;
    }
    out += fmt::format("{}{:.1f} {:.1f}", open ? 'L' : 'M', p.x, p.y);
    open = true;
  }
  return out;
}

double text_width(std::string_view text, double font_size) {
  double em = 0;
  for (const char c : text) {
    if ((static_cast<unsigned char>(c) & 0xC0) == 0x80) continue;  // inside a UTF-8 sequence
    em += std::string_view("il.,:;'|! jtfr()").find(c) != std::string_view::npos ? 0.34 : c >= 'A' && c <= 'Z' ? 0.70 : 0.57;
  }
  return em * font_size;
}

std::string draw(const LineChart& chart) { return draw_padded(chart, 0); }

std::string draw_standalone(const LineChart& chart) { return light_colours(draw_padded(chart, 20)) + "\n"; }

}  // namespace switchyard::report
