// Plain loops: the variant that runs everywhere and explains the others.
#include <cstring>

#include "kernels/packed/tile.h"

namespace switchyard::kernels::packed {
namespace {

float from_bf16(uint16_t x) {
  const uint32_t bits = static_cast<uint32_t>(x) << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

void multiply_float32(const TileCall& t) noexcept {
  for (int64_t s = 0; s < t.num_strips; ++s)
    for (int64_t r = 0; r < t.num_rows; ++r) {
      float* c = t.c + r * t.ldc + s * kStrip;
      const auto* x = reinterpret_cast<const float*>(t.rows.data + r * t.rows.stride);
      const auto* w = reinterpret_cast<const float*>(t.strips + s * t.strip_bytes);
      float sum[kStrip] = {};
      for (int64_t j = 0; t.add && j < kStrip; ++j) sum[j] = c[j];
      for (int64_t p = t.line0; p < t.line1; ++p)
        for (int64_t j = 0; j < kStrip; ++j) sum[j] += x[p] * w[p * kStrip + j];
      for (int64_t j = 0; j < kStrip; ++j) c[j] = sum[j];
    }
}

void multiply_bfloat16(const TileCall& t) noexcept {
  for (int64_t s = 0; s < t.num_strips; ++s)
    for (int64_t r = 0; r < t.num_rows; ++r) {
      float* c = t.c + r * t.ldc + s * kStrip;
      const auto* x = reinterpret_cast<const float*>(t.rows.data + r * t.rows.stride);
      const auto* w = reinterpret_cast<const uint16_t*>(t.strips + s * t.strip_bytes);
      float sum[kStrip] = {};
      for (int64_t j = 0; t.add && j < kStrip; ++j) sum[j] = c[j];
      for (int64_t p = 2 * t.line0; p < 2 * t.line1; ++p)
        for (int64_t j = 0; j < kStrip; ++j) sum[j] += x[p] * from_bf16(w[p / 2 * 2 * kStrip + 2 * j + p % 2]);
      for (int64_t j = 0; j < kStrip; ++j) c[j] = sum[j];
    }
}

template <WeightFormat kFormat>
void multiply_integer(const TileCall& t) noexcept {
  constexpr int64_t kSteps = steps_of_line(kFormat);
  for (int64_t s = 0; s < t.num_strips; ++s) {
    const char* strip = t.strips + s * t.strip_bytes;
    const auto* scales = reinterpret_cast<const uint16_t*>(strip + t.scales_at);
    for (int64_t r = 0; r < t.num_rows; ++r) {
      float* c = t.c + r * t.ldc + s * kStrip;
      const auto* x = reinterpret_cast<const int8_t*>(t.rows.data + r * t.rows.stride);
      float sum[kStrip] = {};
      for (int64_t j = 0; t.add && j < kStrip; ++j) sum[j] = c[j];
      for (int64_t line = t.line0; line < t.line1; line += t.group_lines) {
        const int64_t g = line / t.group_lines, end = line + t.group_lines < t.line1 ? line + t.group_lines : t.line1;
        int32_t dot[kStrip];
        for (int32_t& d : dot) d = t.rows.offsets[r * t.rows.groups + g];
        for (int64_t p = line * kSteps; p < end * kSteps; ++p)
          for (int64_t j = 0; j < kStrip; ++j) {
            const auto byte = static_cast<uint8_t>(strip[p / kSteps * kLineBytes + 4 * j + p % 4]);
            dot[j] += x[p] * (kFormat == WeightFormat::int8 ? byte : p % 8 < 4 ? byte & 15 : byte >> 4);
          }
        const float scale = t.rows.scales[r * t.rows.groups + g];
        for (int64_t j = 0; j < kStrip; ++j) sum[j] += static_cast<float>(dot[j]) * (from_bf16(scales[g * kStrip + j]) * scale);
      }
      for (int64_t j = 0; j < kStrip; ++j) c[j] = sum[j];
    }
  }
}

}  // namespace

const TileKernel kScalarTiles[4] = {{RowForm::float32, multiply_float32}, {RowForm::float32, multiply_bfloat16},
                                    {RowForm::int8, multiply_integer<WeightFormat::int8>},
                                    {RowForm::int8, multiply_integer<WeightFormat::int4>}};

}  // namespace switchyard::kernels::packed
