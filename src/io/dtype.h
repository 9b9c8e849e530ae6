// Element types of stored tensors, and their conversion to and from float32.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace switchyard {

enum class DType { f32, f16, bf16, f64, i64, i32, i16, i8, u8, boolean, f8_e4m3, f8_e5m2 };

[[nodiscard]] int64_t item_size(DType dtype) noexcept;  // bytes

// The name in safetensors files: "F32", "BF16", "BOOL", "F8_E4M3", ...
[[nodiscard]] std::string_view name_of(DType dtype) noexcept;
[[nodiscard]] std::optional<DType> dtype_from_name(std::string_view name) noexcept;

[[nodiscard]] float float16_to_float32(uint16_t bits) noexcept;
[[nodiscard]] float bfloat16_to_float32(uint16_t bits) noexcept;

// Rounds to nearest, ties to even; NaN stays NaN, with its sign.
[[nodiscard]] uint16_t float32_to_bfloat16(float value) noexcept;
[[nodiscard]] uint16_t float32_to_float16(float value) noexcept;  // from 65520 on: infinity

// Widens little-endian items of f32, f16, bf16 or narrows f64 into out[0 .. bytes.size() / item_size); exact but for f64,
// NaN stays NaN. False, with nothing written, for any other dtype. `bytes` may be unaligned.
[[nodiscard]] bool to_float32(DType dtype, std::span<const std::byte> bytes, float* out) noexcept;

}  // namespace switchyard
