// UTF-8 as strangers write it: decoding that never trusts its input, and Unicode normal forms.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace switchyard::io {

struct CodePoint {
  char32_t value = 0;
  size_t bytes = 0;  // 0: the bytes at this place are no UTF-8 (overlong, surrogate, cut off, above U+10FFFF)
};

// The code point at `position` < text.size().
[[nodiscard]] CodePoint decode_utf8(std::string_view text, size_t position) noexcept;

// The code point that ends at `position` > 0 of valid UTF-8.
[[nodiscard]] CodePoint decode_utf8_before(std::string_view text, size_t position) noexcept;

// Bytes from `position` that are all valid UTF-8, or, where none are, all invalid.
struct Stretch {
  std::string_view text;
  bool is_valid = true;
};
[[nodiscard]] Stretch next_stretch(std::string_view text, size_t position) noexcept;

void append_utf8(std::string& out, char32_t code_point);

enum class NormalForm { nfc, nfd, nfkc, nfkd };

// Unicode normal form of `text`; bytes that are no UTF-8 stay as they are.
[[nodiscard]] std::string normalize(std::string_view text, NormalForm form);

}  // namespace switchyard::io
