#include "report/axis.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "report/text.h"

namespace switchyard::report {
namespace {

// What one unit of the labels is worth, and its name.
struct Scale {
  double factor = 1;
  std::string name, suffix;
};

std::string superscript(int exponent) {
  constexpr std::array<const char*, 10> kDigits = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
  std::string out = exponent < 0 ? "⁻" : "";
  for (const char c : std::to_string(std::abs(exponent))) out += kDigits[static_cast<size_t>(c - '0')];
  return out;
}

Scale choose_scale(double largest, Unit unit) {
  switch (unit) {
    case Unit::percent: return {0.01, "", "%"};
    case Unit::times: return {1, "", "×"};
    case Unit::seconds:
      if (largest >= 3 * 3600) return {3600, "h", ""};
      return largest >= 180 ? Scale{60, "min", ""} : Scale{1, "s", ""};
    case Unit::plain: break;
  }
  if (largest >= 1e9) return {1e9, "", "G"};
  if (largest >= 1e6) return {1e6, "", "M"};
  if (largest >= 1e4) return {1e3, "", "k"};
  if (largest > 0 && largest < 0.01) {
    const int exponent = static_cast<int>(std::floor(std::log10(largest) / 3)) * 3;
    return {std::pow(10.0, exponent), "×10" + superscript(exponent), ""};
  }
  return {};
}

double round_step(double raw) {
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  for (const double m : {1.0, 2.0, 2.5, 5.0})
    if (m * power >= raw * (1 - 1e-9)) return m * power;
  return 10 * power;
}

int decimals_of(double step) {
  for (int d = 0; d < 12; ++d) {
    const double scaled = step * std::pow(10.0, d);
    if (std::fabs(scaled - std::round(scaled)) < 1e-6 * scaled) return d;
  }
  return 12;
}

void repair(double& low, double& high) {
  if (!std::isfinite(low) || !std::isfinite(high)) {
    low = 0;
    high = 1;
  }
  if (high < low) std::swap(low, high);
  const double size = std::max(std::fabs(low), std::fabs(high));
  if (high - low > 1e-9 * size && high > low) return;
  const double pad = size > 0 ? 0.05 * size : 0.5;
  low -= pad;
  high += pad;
}

}  // namespace

Axis make_axis(double low, double high, int max_ticks, Unit unit, bool round_range) {
  repair(low, high);
  const Scale scale = choose_scale(std::max(std::fabs(low), std::fabs(high)), unit);
  double step = round_step((high - low) / scale.factor / (max_ticks - 1));
  const auto count = [&](double s) {
    const double a = low / scale.factor / s, b = high / scale.factor / s;
    return round_range ? std::ceil(b - 1e-9) - std::floor(a + 1e-9) + 1 : std::floor(b + 1e-9) - std::ceil(a - 1e-9) + 1;
  };
  while (count(step) > max_ticks) step = round_step(step * 1.01);
  const double unit_step = step * scale.factor;
  Axis axis;
  const double first = round_range ? std::floor(low / unit_step + 1e-9) : std::ceil(low / unit_step - 1e-9);
  const double last = round_range ? std::ceil(high / unit_step - 1e-9) : std::floor(high / unit_step + 1e-9);
  axis.low = round_range ? first * unit_step : low;
  axis.high = round_range ? last * unit_step : high;
  axis.scale = scale.name;
  const int decimals = decimals_of(step);
  for (double i = first; i <= last; ++i) {
    axis.ticks.push_back(i * unit_step);
    axis.labels.push_back(fixed(i * step, decimals) + (i == 0 && unit == Unit::plain ? "" : scale.suffix));
  }
  return axis;
}

}  // namespace switchyard::report
