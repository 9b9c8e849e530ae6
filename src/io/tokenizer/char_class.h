// The classes of code points that splitting and normalising speak of. They come from Oniguruma's tables, so that a
// hand-written splitter and an expression agree on every code point.
#pragma once

#include "io/tokenizer/utf8.h"

#include <cstdint>
#include <string_view>

namespace switchyard::io {

using CharClasses = uint16_t;

enum CharClass : CharClasses {
  kLetter = 1 << 0,           // \p{L}
  kNumber = 1 << 1,           // \p{N}
  kSpace = 1 << 2,            // \s
  kWord = 1 << 3,             // \w, and the zero-width joiners
  kUpper = 1 << 4,            // \p{Lu}, \p{Lt}
  kLower = 1 << 5,            // \p{Ll}
  kCaseless = 1 << 6,         // \p{Lm}, \p{Lo}
  kMark = 1 << 7,             // \p{M}
  kNonspacingMark = 1 << 8,   // \p{Mn}
  kPunctuation = 1 << 9,      // \p{P}
  kSymbol = 1 << 10,          // \p{S}
  kOther = 1 << 11,           // \p{Cc}, \p{Cf}, \p{Co}: controls, formats, private use
};

// The sum of the classes that hold `code_point`.
[[nodiscard]] CharClasses char_classes(char32_t code_point) noexcept;

struct Char {
  CharClasses classes = 0;
  size_t bytes = 0;  // 0: no UTF-8

  [[nodiscard]] bool is(CharClasses any) const noexcept { return (classes & any) != 0; }
};

// Reads characters with their classes. A scanner holds it by reference: the ASCII part is then one load per character.
class CharTable {
 public:
  // The character at `position` < text.size().
  [[nodiscard]] Char at(std::string_view text, size_t position) const noexcept {
    const auto first = static_cast<unsigned char>(text[position]);
    if (first < 0x80) return {classes_[first], 1};
    const CodePoint c = decode_utf8(text, position);
    return {char_classes(c.value), c.bytes};
  }

 private:
  friend const CharTable& char_table() noexcept;
  explicit CharTable(const CharClasses* classes) : classes_(classes) {}
  const CharClasses* classes_;  // of every code point
};

[[nodiscard]] const CharTable& char_table() noexcept;

}  // namespace switchyard::io
