// Quantised matrices of safetensors folders: 8-bit floats with float32 scales, and the MXFP4 tensors of gpt-oss.
#pragma once

#include "io/dtype.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace switchyard::io {

// A matrix of 8-bit floats, real value = code * scale of its block (DeepSeek-V3: arXiv:2412.19437 section 3.3, "weight_scale_inv").
struct Fp8Blocks {
  DType dtype = DType::f8_e4m3;         // or f8_e5m2
  int64_t rows = 0, columns = 0;
  int64_t block_rows = 128, block_columns = 128;
  std::span<const std::byte> codes;     // [rows, columns]
  std::span<const float> scales;        // [ceil(rows / block_rows), ceil(columns / block_columns)]; or one for the whole tensor
};
void decode_fp8_blocks(const Fp8Blocks& m, float* out) noexcept;

// The other way: each block's largest magnitude becomes the largest code (448 or 57344). `codes` [rows, columns] and `scales` as
// above are filled. Error of a value: half a unit in the last place of its code times the scale, so at most amax / 28 with
// E4M3 (16 of 448) and amax / 14 with E5M2 (4096 of 57344), and 2^-4 (2^-3) of the value itself where it is no subnormal code.
// Throws Error{numeric} for a value that is not finite.
void encode_fp8_blocks(DType dtype, std::span<const float> values, int64_t rows, int64_t columns, int64_t block, std::byte* codes,
                       std::vector<float>& scales);

// gpt-oss: blocks [rows, n, 16] U8, low nibble first, scales [rows, n] U8 (exponent + 127) -> out [rows, 32 n].
void decode_mxfp4_rows(std::span<const std::byte> blocks, std::span<const std::byte> scales, float* out) noexcept;
// The inverse: `values` [rows, 32 n] -> blocks and scales, as block_format.h chooses them. Throws Error{numeric}.
void encode_mxfp4_rows(std::span<const float> values, std::byte* blocks, std::byte* scales);

}  // namespace switchyard::io
