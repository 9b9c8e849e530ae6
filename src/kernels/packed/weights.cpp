#include "kernels/packed/weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <vector>

#include "base/mapped_memory.h"
#include "kernels/bf16.h"
#include "switchyard/error.h"

namespace switchyard::kernels::packed {
namespace {

uint16_t bf16_bits(float x) {
  const float rounded = round_to_bf16(x);
  uint32_t bits;
  std::memcpy(&bits, &rounded, 4);
  return static_cast<uint16_t>(bits >> 16);
}

float from_bf16(uint16_t x) {
  const uint32_t bits = static_cast<uint32_t>(x) << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

float largest_magnitude(const float* w, int64_t n) {
  float most = 0;
  for (int64_t i = 0; i < n; ++i) most = std::max(most, std::abs(w[i]));
  return most;
}

int quantised(float w, float inverse, int least, int most) {
  return static_cast<int>(std::clamp(std::nearbyint(w * inverse), static_cast<float>(least), static_cast<float>(most)));
}

float squared_error(const float* w, int64_t n, float scale, int least, int most) {
  const float inverse = 1 / scale;
  float sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    const float q = std::min(std::max((w[i] * inverse + 12582912.0f) - 12582912.0f, static_cast<float>(least)), static_cast<float>(most));
    const float error = w[i] - q * scale;  // q is rounded by the addition
    sum += error * error;
  }
  return sum;
}

float int8_scale(const float* w, int64_t n) { return from_bf16(bf16_bits(largest_magnitude(w, n) / 127)); }

// 16 levels are few: letting the largest weights clip a little, or using -8 on the side where the largest one is, often
// costs less in all. The best of a few scales by squared error.
float int4_scale(const float* w, int64_t n) {
  const float most = largest_magnitude(w, n);
  if (most == 0) return 0;
  float best = 0, least_error = std::numeric_limits<float>::infinity();
  for (const float levels : {7.0f, 7.5f, 8.0f, 8.5f, 9.5f})
    for (const float sign : {1.0f, -1.0f}) {
      const float scale = from_bf16(bf16_bits(sign * most / levels));
      if (scale == 0) continue;
      if (const float error = squared_error(w, n, scale, -8, 7); error < least_error) best = scale, least_error = error;
    }
  return best;
}

// Steps are padded so that a strip ends with a whole AMX tile (16 lines), integer formats also with a whole group of 64.
int64_t padded_steps(WeightFormat f, int64_t k) { return round_up(k, f == WeightFormat::float32 ? 1 : f == WeightFormat::bfloat16 ? 32 : 64); }

}  // namespace

std::string_view name_of(WeightFormat format) noexcept {
  switch (format) {
    case WeightFormat::float32: return "float32";
    case WeightFormat::bfloat16: return "bfloat16";
    case WeightFormat::int8: return "int8";
    case WeightFormat::int4: return "int4";
  }
  return "?";
}

WeightFormat parse_weight_format(std::string_view name) {
  const std::pair<std::string_view, WeightFormat> short_names[] = {{"f32", WeightFormat::float32}, {"bf16", WeightFormat::bfloat16}};
  for (const WeightFormat f : kAllFormats)
    if (name == name_of(f)) return f;
  for (const auto& [word, f] : short_names)
    if (name == word) return f;
  fail(ErrorKind::usage, "weight format '{}': expected float32, bfloat16, int8 or int4 (f32 and bf16 for short)", name);
}

PackedWeights::PackedWeights(WeightFormat format, int64_t experts, int64_t n, int64_t k, RowOrder order, int64_t group)
    : format_(format), order_(order), experts_(experts), n_(n), k_(k) {
  if (experts < 1 || n < 1 || k < 1) fail(ErrorKind::usage, "packed weights of {} experts [{}, {}]: expected positive sizes", experts, n, k);
  if (order != RowOrder::as_stored && n % 2 != 0) fail(ErrorKind::usage, "packed weights: {} rows are not gate and up in equal numbers", n);
  if (group < 0 || group % 64 != 0 || (group != 0 && !is_integer(format)))
    fail(ErrorKind::usage, "packed weights: group = {} for {}, expected 0 or, for int8 and int4, a multiple of 64", group, name_of(format));
  steps_ = padded_steps(format, k);
  group_ = !is_integer(format) ? steps_ : std::min(group > 0 ? group : default_group(format), steps_);
  strips_ = order == RowOrder::as_stored ? round_up(n, kStrip) / kStrip : 2 * (round_up(n / 2, kStrip) / kStrip);
  const int64_t scale_bytes = is_integer(format) ? groups() * kStrip * 2 : 0;
  strip_bytes_ = round_up(scales_at() + scale_bytes, kLineBytes);
  data_ = mapped_memory(bytes(), /*huge_pages=*/true);
}

int64_t PackedWeights::source_row(int64_t strip, int64_t c) const {
  if (order_ == RowOrder::as_stored) return strip * kStrip + c < n_ ? strip * kStrip + c : -1;
  const int64_t i = strip / 2 * kStrip + c, half = strip % 2;
  if (i >= n_ / 2) return -1;
  return order_ == RowOrder::gate_then_up ? half * (n_ / 2) + i : 2 * i + half;
}

void PackedWeights::pack(int64_t expert, const float* matrix) {
  pack(expert, [&](int64_t r, float* out) { std::memcpy(out, matrix + r * k_, sizeof(float) * static_cast<size_t>(k_)); });
}

void PackedWeights::pack(int64_t expert, const ReadRow& row) {
#pragma omp parallel for schedule(dynamic, 4) if (strips_ * k_ > 8192)
  for (int64_t s = 0; s < strips_; ++s) pack_strip(expert, s, row);
}

void PackedWeights::pack_strip(int64_t expert, int64_t s, const ReadRow& read) {
  char* const to = data_.get() + expert * expert_bytes() + s * strip_bytes_;
  auto* scales = reinterpret_cast<uint16_t*>(to + scales_at());
  std::vector<float> row(static_cast<size_t>(steps_));
  for (int64_t c = 0; c < kStrip; ++c) {
    std::fill(row.begin(), row.end(), 0.0f);
    if (const int64_t r = source_row(s, c); r >= 0) read(r, row.data());
    if (format_ == WeightFormat::float32)
      for (int64_t p = 0; p < steps_; ++p) reinterpret_cast<float*>(to)[p * kStrip + c] = row[static_cast<size_t>(p)];
    if (format_ == WeightFormat::bfloat16)
      for (int64_t p = 0; p < steps_; ++p) reinterpret_cast<uint16_t*>(to)[p / 2 * 2 * kStrip + 2 * c + p % 2] = bf16_bits(row[static_cast<size_t>(p)]);
    if (!is_integer(format_)) continue;
    for (int64_t g = 0; g < groups(); ++g) {
      const int64_t begin = g * group_, end = std::min(begin + group_, steps_);
      const float* w = row.data() + begin;
      const float scale = format_ == WeightFormat::int8 ? int8_scale(w, end - begin) : int4_scale(w, end - begin);
      const float inverse = scale == 0 ? 0 : 1 / scale;
      scales[g * kStrip + c] = bf16_bits(scale);
      auto* bytes = reinterpret_cast<uint8_t*>(to);
      for (int64_t p = begin; p < end; ++p) {
        if (format_ == WeightFormat::int8) {
          bytes[p / 4 * kLineBytes + 4 * c + p % 4] = static_cast<uint8_t>(quantised(row[static_cast<size_t>(p)], inverse, -127, 127) + kInt8Offset);
        } else {
          uint8_t& pair = bytes[p / 8 * kLineBytes + 4 * c + p % 4];
          const auto q = static_cast<uint8_t>(quantised(row[static_cast<size_t>(p)], inverse, -8, 7) + kInt4Offset);
          pair = p % 8 < 4 ? static_cast<uint8_t>((pair & 0xf0) | q) : static_cast<uint8_t>((pair & 0x0f) | q << 4);
        }
      }
    }
  }
}

void PackedWeights::unpack_row(int64_t expert, int64_t r, float* out) const {
  int64_t s = r / kStrip, c = r % kStrip;
  if (order_ != RowOrder::as_stored) {
    const bool halves = order_ == RowOrder::gate_then_up;
    const int64_t half = halves ? r / (n_ / 2) : r % 2, i = halves ? r % (n_ / 2) : r / 2;
    s = i / kStrip * 2 + half;
    c = i % kStrip;
  }
  const char* const from = strip(expert, s);
  const auto* bytes = reinterpret_cast<const uint8_t*>(from);
  const auto* scales = reinterpret_cast<const uint16_t*>(from + scales_at());
  for (int64_t p = 0; p < k_; ++p) {
    const auto scale = [&] { return from_bf16(scales[p / group_ * kStrip + c]); };
    switch (format_) {
      case WeightFormat::float32: out[p] = reinterpret_cast<const float*>(from)[p * kStrip + c]; break;
      case WeightFormat::bfloat16: out[p] = from_bf16(reinterpret_cast<const uint16_t*>(from)[p / 2 * 2 * kStrip + 2 * c + p % 2]); break;
      case WeightFormat::int8: out[p] = scale() * static_cast<float>(bytes[p / 4 * kLineBytes + 4 * c + p % 4] - kInt8Offset); break;
      case WeightFormat::int4: {
        const int pair = bytes[p / 8 * kLineBytes + 4 * c + p % 4];
        out[p] = scale() * static_cast<float>((p % 8 < 4 ? pair & 15 : pair >> 4) - kInt4Offset);
        break;
      }
    }
  }
}

}  // namespace switchyard::kernels::packed
