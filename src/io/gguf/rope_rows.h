// GGUF stores the query and key rows of llama-like models so that rotary positions turn neighbours (2 j, 2 j + 1); Hugging Face
// turns (j, j + c / 2), c = values of a head.
#pragma once

#include <cstdint>

namespace switchyard::io {

// The row of a Hugging Face matrix for row `row` of GGUF, in heads of `c` rows.
[[nodiscard]] constexpr int64_t hf_row_of(int64_t row, int64_t c) noexcept {
  const int64_t in_head = row % c;
  return row - in_head + in_head % 2 * (c / 2) + in_head / 2;
}

}  // namespace switchyard::io
