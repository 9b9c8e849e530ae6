// Letter, number, space, word: the classes of code points that splitting expressions speak of. They come from
// Oniguruma's tables, so that a hand-written splitter and an expression agree on every code point.
#pragma once

#include <cstdint>

namespace switchyard::io {

enum CharClass : uint8_t {
  kLetter = 1,  // \p{L}
  kNumber = 2,  // \p{N}
  kSpace = 4,   // \s
  kWord = 8,    // \w, and the zero-width joiners
};

// The sum of the classes that hold `code_point`.
[[nodiscard]] uint8_t char_classes(char32_t code_point) noexcept;

}  // namespace switchyard::io
