#include "io/quant/scaled_blocks.h"

#include "io/quant/block_format.h"
#include "io/quant/minifloat.h"
#include "switchyard/error.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace switchyard::io {
namespace {

constexpr int64_t kMx = 32;

int64_t blocks_in(int64_t size, int64_t block) { return (size + block - 1) / block; }

std::array<float, 256> f8_table(DType dtype) noexcept {
  std::array<float, 256> table;
  for (size_t code = 0; code < table.size(); ++code) {
    const auto byte = static_cast<uint8_t>(code);
    table[code] = dtype == DType::f8_e5m2 ? f8_e5m2_to_float32(byte) : f8_e4m3_to_float32(byte);
  }
  return table;
}

void check_finite(std::span<const float> values) {
  for (size_t i = 0; i < values.size(); ++i)
    if (!std::isfinite(values[i])) fail(ErrorKind::numeric, "element {} is {}; only finite values can be quantised", i, values[i]);
}

}  // namespace

void decode_fp8_blocks(const Fp8Blocks& m, float* out) noexcept {
  const std::array<float, 256> value = f8_table(m.dtype);
  const bool one_scale = m.scales.size() == 1;
  const int64_t across = blocks_in(m.columns, m.block_columns);
  for (int64_t r = 0; r < m.rows; ++r) {
    const std::byte* codes = m.codes.data() + r * m.columns;
    for (int64_t first = 0, j = 0; first < m.columns; first += m.block_columns, ++j) {
      const float scale = m.scales[one_scale ? 0 : static_cast<size_t>(r / m.block_rows * across + j)];
      const int64_t end = std::min(first + m.block_columns, m.columns);
      for (int64_t c = first; c < end; ++c) out[r * m.columns + c] = value[std::to_integer<size_t>(codes[c])] * scale;
    }
  }
}

void encode_fp8_blocks(DType dtype, std::span<const float> values, int64_t rows, int64_t columns, int64_t block, std::byte* codes,
                       std::vector<float>& scales) {
  check_finite(values);
  const float largest = dtype == DType::f8_e5m2 ? 57344.0F : 448.0F;
  const int64_t across = blocks_in(columns, block);
  scales.assign(static_cast<size_t>(blocks_in(rows, block) * across), 0.0F);
  for (int64_t i = 0; i < rows * columns; ++i) {
    float& scale = scales[static_cast<size_t>(i / columns / block * across + i % columns / block)];
    scale = std::max(scale, std::abs(values[static_cast<size_t>(i)]));
  }
  for (float& scale : scales) scale = scale > 0 ? std::max(scale / largest, 0x1p-126F) : 1.0F;
  for (int64_t i = 0; i < rows * columns; ++i) {
    const float scaled = values[static_cast<size_t>(i)] / scales[static_cast<size_t>(i / columns / block * across + i % columns / block)];
    codes[i] = static_cast<std::byte>(dtype == DType::f8_e5m2 ? float32_to_f8_e5m2(scaled) : float32_to_f8_e4m3(scaled));
  }
}

void decode_mxfp4_rows(std::span<const std::byte> blocks, std::span<const std::byte> scales, float* out) noexcept {
  for (size_t b = 0; b < scales.size(); ++b, out += kMx) {
    const float scale = e8m0_to_float32(std::to_integer<uint8_t>(scales[b]));
    for (size_t j = 0; j < 16; ++j) {
      const auto pair = std::to_integer<uint8_t>(blocks[16 * b + j]);
      out[2 * j] = scale * kE2m1[pair & 15];
      out[2 * j + 1] = scale * kE2m1[pair >> 4];
    }
  }
}

void encode_mxfp4_rows(std::span<const float> values, std::byte* blocks, std::byte* scales) {
  const BlockFormat& ggml = format_of(GgmlType::mxfp4);  // the same codes; there the halves of a block share a byte
  const auto n = static_cast<int64_t>(values.size()) / kMx;
  std::array<std::byte, 17> block;
  for (int64_t b = 0; b < n; ++b) {
    encode_blocks(ggml, values.subspan(static_cast<size_t>(b * kMx), kMx), block.data(), "MXFP4 block");
    scales[b] = block[0];
    const auto code = [&](size_t i) { return std::to_integer<unsigned>(block[1 + i % 16]) >> (i < 16 ? 0 : 4) & 15U; };
    for (size_t j = 0; j < 16; ++j) blocks[16 * b + static_cast<int64_t>(j)] = static_cast<std::byte>(code(2 * j) | code(2 * j + 1) << 4);
  }
}

}  // namespace switchyard::io
