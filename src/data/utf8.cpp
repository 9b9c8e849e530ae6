#include "data/utf8.h"

#include "switchyard/error.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace switchyard::data {
namespace {

bool is_continuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

struct Lead {
  size_t length;               // bytes of the character; 0: no character starts with this byte
  unsigned char second_low, second_high;  // range of the second byte
};

Lead lead_of(unsigned char c) {
  if (c < 0x80) return {1, 0, 0};
  if (c < 0xC2) return {0, 0, 0};  // a continuation byte, or an overlong form
  if (c < 0xE0) return {2, 0x80, 0xBF};
  if (c == 0xE0) return {3, 0xA0, 0xBF};
  if (c == 0xED) return {3, 0x80, 0x9F};  // above: surrogates
  if (c < 0xF0) return {3, 0x80, 0xBF};
  if (c == 0xF0) return {4, 0x90, 0xBF};
  if (c < 0xF4) return {4, 0x80, 0xBF};
  if (c == 0xF4) return {4, 0x80, 0x8F};  // above: beyond U+10FFFF
  return {0, 0, 0};
}

bool is_ascii_word(const char* p) {
  uint64_t word;
  std::memcpy(&word, p, sizeof word);
  return (word & 0x8080808080808080ull) == 0;
}

}  // namespace

std::optional<size_t> find_invalid_utf8(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    if (text.size() - i >= 8 && is_ascii_word(text.data() + i)) {
      i += 8;
      continue;
    }
    const Lead lead = lead_of(static_cast<unsigned char>(text[i]));
    if (lead.length == 0 || text.size() - i < lead.length) return i;
    if (lead.length > 1) {
      const auto second = static_cast<unsigned char>(text[i + 1]);
      if (second < lead.second_low || second > lead.second_high) return i;
    }
    for (size_t j = 2; j < lead.length; ++j)
      if (!is_continuation(text[i + j])) return i;
    i += lead.length;
  }
  return std::nullopt;
}

size_t character_boundary(std::string_view text, size_t position) {
  if (position >= text.size()) return text.size();
  while (position > 0 && is_continuation(text[position])) --position;
  return position;
}

void check_utf8(std::string_view text, std::string_view file) {
  const auto bad = find_invalid_utf8(text);
  if (!bad) return;
  const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(*bad), '\n');
  fail(ErrorKind::checkpoint, "{}:{}: byte 0x{:02X} at offset {} is not UTF-8; expected UTF-8 text (convert it, e.g. with iconv -f LATIN1 -t UTF-8)",
       file, line, static_cast<unsigned char>(text[*bad]), *bad);
}

}  // namespace switchyard::data
