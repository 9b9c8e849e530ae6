// Safetensors folders with quantised matrices, seen as if they were not: 8-bit floats with scales (DeepSeek-V3 and others) and
// the MXFP4 experts of gpt-oss. Values are decoded when they are asked for.
//
//   X [out, in] F8_E4M3 or F8_E5M2 with X_scale_inv or X_scale: one number; [out] or [out, 1]; or [ceil(out / b), ceil(in / c)]
//       for blocks of b x c. Value = code * scale (the name says "inv", the files mean the factor).
//   X_blocks [N, R, n, 16] U8 with X_scales [N, R, n] U8: X [N, 32 n, R], the transposed order of the bfloat16 files.
#pragma once

#include "io/tensor_store.h"

#include <memory>

namespace switchyard::io {

[[nodiscard]] bool has_quantised_tensors(const TensorStore& files);

// Throws Error{checkpoint} for scales that are missing or do not fit. `block_rows`, `block_columns`: of two-dimensional scales.
[[nodiscard]] std::unique_ptr<TensorStore> dequantised(std::shared_ptr<const TensorStore> files, int64_t block_rows, int64_t block_columns);

}  // namespace switchyard::io
