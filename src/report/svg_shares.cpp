#include "report/svg_shares.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/axis.h"
#include "report/palette.h"
#include "report/svg_chart.h"
#include "report/text.h"

namespace switchyard::report {
namespace {

constexpr double kLeft = 38, kSharesTop = 8, kRight = 14, kSharesBottom = 38;

std::string frame_svg(const ShareChart& chart, const Axis& x, double width, double height) {
  std::string out;
  for (const int p : {0, 50, 100}) {
    const double y = kSharesTop + height * (1 - p / 100.0);
    out += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"tick end\">{}%</text>", kLeft - 6, y + 4, p);
  }
  for (size_t i = 0; i < x.ticks.size(); ++i) {
    const double at = kLeft + x.place(x.ticks[i], width);
    out += fmt::format("<path class=\"axis\" d=\"M{:.1f} {:.1f}v4\"/>", at, kSharesTop + height);
    out += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"tick mid\">{}</text>", at, kSharesTop + height + 17, x.labels[i]);
  }
  return out + fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"name mid\">{}</text>", kLeft + width / 2, kSharesTop + height + 34,
                           escape(chart.x_label));
}

std::string band_title(const std::vector<std::vector<double>>& rows, size_t e) {
  double low = INFINITY, high = -INFINITY, sum = 0;
  for (const auto& row : rows) {
    low = std::min(low, row[e]);
    high = std::max(high, row[e]);
    sum += row[e];
  }
  return fmt::format("expert {}\nlast {} of choices\nmean {}, from {} to {}", e, percent(rows.back()[e]),
                     percent(sum / static_cast<double>(rows.size())), percent(low), percent(high));
}

// Band of expert e between the running sums `base[n]` and `base[n] + share`; moves `base` to its upper edge.
std::string band_path(const std::vector<double>& px, const std::vector<std::vector<double>>& rows, size_t e, double height, std::vector<double>& base) {
  Series outline;
  const auto py = [&](double share) { return kSharesTop + height * (1 - std::clamp(share, 0.0, 1.0)); };
  for (size_t n = 0; n < px.size(); ++n) outline.push_back({px[n], py(base[n])});
  for (size_t n = px.size(); n-- > 0;) {
    base[n] += rows[n][e];
    outline.push_back({px[n], py(base[n])});
  }
  return path_data(outline) + "Z";
}

}  // namespace

void average_rows(std::vector<double>& x, std::vector<std::vector<double>>& rows, size_t limit) {
  const size_t n = rows.size();
  if (n <= limit || limit == 0) return;
  std::vector<double> mean_x;
  std::vector<std::vector<double>> mean_rows;
  for (size_t b = 0; b < limit; ++b) {
    const size_t begin = b * n / limit, end = (b + 1) * n / limit;
    const double weight = 1.0 / static_cast<double>(end - begin);
    double at = 0;
    std::vector<double> mean(rows[begin].size(), 0.0);
    for (size_t i = begin; i < end; ++i) {
      at += weight * x[i];
      for (size_t e = 0; e < mean.size(); ++e) mean[e] += weight * rows[i][e];
    }
    mean_x.push_back(at);
    mean_rows.push_back(std::move(mean));
  }
  mean_x.front() = x.front();
  mean_x.back() = x.back();
  x = std::move(mean_x);
  rows = std::move(mean_rows);
}

std::string draw(const ShareChart& chart) {
  std::string out = fmt::format("<svg class=\"chart\" viewBox=\"0 0 {:g} {:g}\" width=\"{:g}\" height=\"{:g}\" role=\"img\" aria-label=\"{}\">",
                                chart.width, chart.height, chart.width, chart.height, escape(chart.description));
  if (chart.share.empty() || chart.share[0].empty())
    return out + fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"name mid\">no values</text></svg>", chart.width / 2, chart.height / 2);
  std::vector<double> xs = chart.x;
  auto rows = chart.share;
  average_rows(xs, rows, 100);
  if (rows.size() == 1) {  // one record still makes a band
    xs.push_back(xs[0] + 1);
    rows.push_back(rows[0]);
  }
  const double width = chart.width - kLeft - kRight, height = chart.height - kSharesTop - kSharesBottom;
  const Axis axis = make_axis(from_zero_if_near(xs.front(), xs.back()), xs.back(), std::clamp(static_cast<int>(width / 45), 3, 9), Unit::plain, false);
  out += frame_svg(chart, axis, width, height);
  std::vector<double> px, base(xs.size(), 0.0);
  for (const double x : xs) px.push_back(kLeft + axis.place(x, width));
  const size_t num_experts = rows[0].size();
  for (size_t e = 0; e < num_experts; ++e)
    out += fmt::format("<path class=\"share\" style=\"fill:rgb(var(--e{}))\" d=\"{}\"><title>{}</title></path>", e % kNumExpertColours,
                       band_path(px, rows, e, height, base), escape(band_title(rows, e)));
  for (size_t e = 1; e < num_experts; ++e)
    out += fmt::format("<path class=\"uniform\" d=\"M{:.1f} {:.1f}h{:.1f}\"/>", kLeft,
                       kSharesTop + height * (1 - static_cast<double>(e) / static_cast<double>(num_experts)), width);
  return out + "</svg>";
}

}  // namespace switchyard::report
