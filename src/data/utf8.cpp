#include "data/utf8.h"

#include "io/tokenizer/utf8.h"
#include "switchyard/error.h"

#include <algorithm>

namespace switchyard::data {

std::optional<size_t> find_invalid_utf8(std::string_view text) {
  const io::Stretch first = io::next_stretch(text, 0);
  if (!first.is_valid) return 0;
  return first.text.size() < text.size() ? std::optional(first.text.size()) : std::nullopt;
}

size_t character_boundary(std::string_view text, size_t position) {
  if (position >= text.size()) return text.size();
  const auto is_continuation = [&](size_t i) { return (static_cast<unsigned char>(text[i]) & 0xC0) == 0x80; };
  while (position > 0 && is_continuation(position)) --position;
  return position;
}

void check_utf8(std::string_view text, std::string_view file) {
  const auto bad = find_invalid_utf8(text);
  if (!bad) return;
  const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(*bad), '\n');
  fail(ErrorKind::checkpoint,
       "{}:{}: byte 0x{:02X} at offset {} is not UTF-8; expected UTF-8 text (convert it, e.g. with iconv -f LATIN1 -t UTF-8)", file,
       line, static_cast<unsigned char>(text[*bad]), *bad);
}

}  // namespace switchyard::data
