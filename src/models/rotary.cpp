#include "models/rotary.h"

#include "base/llama3_rope.h"
#include "switchyard/error.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace switchyard {
namespace {

// Of yarn: the dimension whose angle turns `turns` times in a text of `length` tokens (arXiv:2309.00071 section 3.2).
double dimension_that_turns(double turns, double dims, double theta, double length) {
  return dims * std::log(length / (turns * 2 * std::numbers::pi)) / (2 * std::log(theta));
}

// 0 where angles stay, 1 where they are divided by the factor.
double yarn_ramp(const RopeSpec& s, int64_t i, int64_t dims, double theta, int64_t original) {
  double low = dimension_that_turns(s.beta_fast, static_cast<double>(dims), theta, static_cast<double>(original));
  double high = dimension_that_turns(s.beta_slow, static_cast<double>(dims), theta, static_cast<double>(original));
  if (s.truncate) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0), high = std::min(high, static_cast<double>(dims - 1));
  if (low == high) high += 0.001;
  return std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
}

}  // namespace

double yarn_mscale(double factor, double mscale) { return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1; }

Rotary::Rotary(const ModelSpec& spec, int64_t dims) : spec_(spec.rope), dims_(dims), max_positions_(spec.max_positions), theta_(spec.rope_theta) {}

int64_t Rotary::original() const { return spec_.original_positions > 0 ? spec_.original_positions : max_positions_; }

double Rotary::theta_of(int64_t length) const {
  if (spec_.scaling != "dynamic" || length <= original()) return theta_;
  const double d = static_cast<double>(dims_), longer = spec_.factor * static_cast<double>(length) / static_cast<double>(original()) - (spec_.factor - 1);
  return theta_ * std::pow(longer, d / (d - 2));
}

double Rotary::attention_factor(int64_t length) const {
  const RopeSpec& s = spec_;
  if (s.scaling == "yarn") {
    if (s.attention_factor > 0) return s.attention_factor;
    if (s.mscale > 0 && s.mscale_all_dim > 0) return yarn_mscale(s.factor, s.mscale) / yarn_mscale(s.factor, s.mscale_all_dim);
    return yarn_mscale(s.factor, 1);
  }
  if (s.scaling != "longrope") return 1;
  const double given = length > original() ? s.long_mscale : s.short_mscale;
  if (given > 0) return given;
  if (s.attention_factor > 0) return s.attention_factor;
  const double factor = static_cast<double>(max_positions_) / static_cast<double>(original());
  return factor <= 1 ? 1 : std::sqrt(1 + std::log(factor) / std::log(static_cast<double>(original())));
}

std::vector<float> Rotary::frequencies(int64_t length) const {
  const double theta = theta_of(length);
  std::vector<float> out;
  for (int64_t i = 0; i < dims_ / 2; ++i) {
    double f = std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(dims_));
    if (spec_.scaling == "linear") f /= spec_.factor;
    if (spec_.scaling == "llama3") f /= llama3_divisor({spec_.factor, spec_.low_freq_factor, spec_.high_freq_factor, static_cast<double>(original())}, f);
    if (spec_.scaling == "longrope") f /= (length > original() ? spec_.long_factor : spec_.short_factor).at(static_cast<size_t>(i));
    if (spec_.scaling == "yarn") {
      const double ramp = yarn_ramp(spec_, i, dims_, theta, original());
      f = f / spec_.factor * ramp + f * (1 - ramp);
    }
    out.push_back(static_cast<float>(f));
  }
  return out;
}

RotaryTable Rotary::upto(int64_t length) {
  if (dims_ == 0) return {};
  auto frequency = frequencies(length);
  if (table_.cos.defined() && table_.cos.size(0) >= length && frequency == made_with_) return table_;
  const int64_t half = dims_ / 2;
  // Doubled, so that a text that grows token by token makes few tables.
  const int64_t rows = std::min(std::max<int64_t>(max_positions_, length), std::max<int64_t>(2 * length, 256));
  const double factor = attention_factor(length);
  RotaryTable table{torch::empty({rows, half}, torch::kFloat32), torch::empty({rows, half}, torch::kFloat32)};
  float* const c = table.cos.data_ptr<float>();
  float* const s = table.sin.data_ptr<float>();
  for (int64_t p = 0; p < rows; ++p)
    for (int64_t i = 0; i < half; ++i) {
      // Angles in float32, as published checkpoints were trained; their sine and cosine are exact to float32.
      const double angle = static_cast<float>(p) * frequency[static_cast<size_t>(i)];
      c[p * half + i] = static_cast<float>(std::cos(angle) * factor);
      s[p * half + i] = static_cast<float>(std::sin(angle) * factor);
    }
  made_with_ = std::move(frequency);
  return table_ = table;
}

void check_rope(const ModelSpec& spec) {
  const RopeSpec& s = spec.rope;
  const auto positive = [](double value, const char* key) {
    if (!(value > 0 && std::isfinite(value))) fail(ErrorKind::config, "model.rope.{} = {}, expected a number above 0", key, value);
  };
  if (s.dims < 0 || s.dims % 2 != 0) fail(ErrorKind::config, "model.rope.dims = {}, expected an even number, or 0 for the whole head", s.dims);
  if (s.original_positions < 0) fail(ErrorKind::config, "model.rope.original_positions = {}, expected 0 or more", s.original_positions);
  if (s.scaling == "none") return;
  if (s.scaling != "linear" && s.scaling != "dynamic" && s.scaling != "yarn" && s.scaling != "llama3" && s.scaling != "longrope")
    fail(ErrorKind::config, "model.rope.scaling = '{}', expected none, linear, dynamic, yarn, llama3 or longrope", s.scaling);
  positive(s.factor, "factor");
  if (s.scaling == "yarn") positive(s.beta_fast, "beta_fast"), positive(s.beta_slow, "beta_slow");
  if (s.scaling == "llama3" && !(s.low_freq_factor > 0 && s.high_freq_factor > s.low_freq_factor))
    fail(ErrorKind::config, "model.rope: low_freq_factor = {}, high_freq_factor = {}, expected 0 < low < high", s.low_freq_factor, s.high_freq_factor);
  if (s.scaling == "longrope") {
    const auto dims = static_cast<size_t>(s.dims > 0 ? s.dims : spec.head_dim);
    for (const auto& [key, list] : {std::pair{"short_factor", &s.short_factor}, {"long_factor", &s.long_factor}}) {
      if (list->size() != dims / 2) fail(ErrorKind::config, "model.rope.{} has {} numbers, expected {}: one for each pair of dimensions", key, list->size(), dims / 2);
      for (const double value : *list) positive(value, key);
    }
  }
}

}  // namespace switchyard
