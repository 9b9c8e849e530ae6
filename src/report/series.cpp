#include "report/series.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace switchyard::report {

namespace {
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
}

Series finite(const Series& s) {
  Series out;
  out.reserve(s.size());
  for (const Point& p : s)
    if (std::isfinite(p.x) && std::isfinite(p.y)) out.push_back(p);
  return out;
}

Series smooth(const Series& s, size_t half_width) {
  std::vector<double> sum_y(s.size() + 1, 0.0), sum_iy(s.size() + 1, 0.0);  // running sums of y and of index * y
  for (size_t i = 0; i < s.size(); ++i) {
    sum_y[i + 1] = sum_y[i] + s[i].y;
    sum_iy[i + 1] = sum_iy[i] + static_cast<double>(i) * s[i].y;
  }
  Series out(s.size());
  for (size_t i = 0; i < s.size(); ++i) {
    const size_t right = std::min({half_width, i, s.size() - 1 - i});
    const size_t left = i < half_width ? right : std::min(i, 2 * half_width - right);
    const auto n = static_cast<double>(left + right + 1);
    const double mean = (sum_y[i + right + 1] - sum_y[i - left]) / n;
    const double centre = static_cast<double>(i) + 0.5 * (static_cast<double>(right) - static_cast<double>(left));
    const double covariance = (sum_iy[i + right + 1] - sum_iy[i - left]) / n - centre * mean;
    const double slope = n > 1 ? covariance * 12 / (n * n - 1) : 0;  // variance of n neighbouring indices: (n^2 - 1) / 12
    out[i] = {s[i].x, left == right ? mean : mean + slope * (static_cast<double>(i) - centre)};
  }
  return out;
}

Series thin(const Series& s, size_t limit) {
  if (s.size() <= limit || limit < 4) return s;
  const size_t buckets = limit / 2;
  Series out;
  const auto lower = [](const Point& a, const Point& b) { return a.y < b.y; };
  for (size_t b = 0; b < buckets; ++b) {
    const auto begin = s.begin() + static_cast<std::ptrdiff_t>(b * s.size() / buckets);
    const auto end = s.begin() + static_cast<std::ptrdiff_t>((b + 1) * s.size() / buckets);
    auto [low, high] = std::minmax_element(begin, end, lower);
    if (high < low) std::swap(low, high);
    out.push_back(*low);
    if (high != low) out.push_back(*high);
  }
  if (out.front().x != s.front().x) out.insert(out.begin(), s.front());
  if (out.back().x != s.back().x) out.push_back(s.back());
  return out;
}

double value_at(const Series& s, double x) {
  if (s.empty() || x < s.front().x || x > s.back().x) return kNaN;
  const auto after = std::lower_bound(s.begin(), s.end(), x, [](const Point& p, double v) { return p.x < v; });
  if (after->x == x || after == s.begin()) return after->y;
  const Point& a = *(after - 1);
  const double t = (x - a.x) / (after->x - a.x);
  return a.y + t * (after->y - a.y);
}

double first_x_at_or_below(const Series& s, double level) {
  for (size_t i = 0; i < s.size(); ++i) {
    if (s[i].y > level) continue;
    if (i == 0 || s[i].y == level) return s[i].x;
    const Point& a = s[i - 1];
    return a.x + (s[i].x - a.x) * (a.y - level) / (a.y - s[i].y);
  }
  return kNaN;
}

std::vector<SpreadPoint> spread_of(const std::vector<Series>& members) {
  double first = -std::numeric_limits<double>::infinity(), last = std::numeric_limits<double>::infinity();
  std::vector<double> xs;
  for (const Series& s : members) {
    if (s.empty()) return {};
    first = std::max(first, s.front().x);
    last = std::min(last, s.back().x);
    for (const Point& p : s) xs.push_back(p.x);
  }
  std::sort(xs.begin(), xs.end());
  xs.erase(std::unique(xs.begin(), xs.end()), xs.end());
  std::vector<SpreadPoint> out;
  for (const double x : xs) {
    if (x < first || x > last) continue;
    SpreadPoint p{x, 0, std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()};
    for (const Series& s : members) {
      const double y = value_at(s, x);
      p.mean += y / static_cast<double>(members.size());
      p.low = std::min(p.low, y);
      p.high = std::max(p.high, y);
    }
    out.push_back(p);
  }
  return out;
}

double median(std::vector<double> values) {
  values.erase(std::remove_if(values.begin(), values.end(), [](double v) { return !std::isfinite(v); }), values.end());
  if (values.empty()) return kNaN;
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return n % 2 == 1 ? values[n / 2] : 0.5 * (values[n / 2 - 1] + values[n / 2]);
}

}  // namespace switchyard::report
