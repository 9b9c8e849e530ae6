// What the hand-written splitters share: runs of characters of a class, and the alternatives on white space and
// contractions that the published expressions have in common.
#pragma once

#include "io/tokenizer/char_class.h"

namespace switchyard::io {

// The end of the run of characters at `position` that have one of `any` and none of `none`; at most `most` of them.
inline size_t end_of_run(const CharTable& chars, std::string_view text, size_t position, CharClasses any, CharClasses none = 0, size_t most = SIZE_MAX) {
  for (; position < text.size() && most > 0; --most) {
    const Char c = chars.at(text, position);
    if (!c.is(any) || c.is(none)) break;
    position += c.bytes;
  }
  return position;
}

// The same for what is none of `none`.
inline size_t end_of_others(const CharTable& chars, std::string_view text, size_t position, CharClasses none) {
  while (position < text.size()) {
    const Char c = chars.at(text, position);
    if (c.is(none)) break;
    position += c.bytes;
  }
  return position;
}

inline bool is_newline(char c) noexcept { return c == '\n' || c == '\r'; }

inline size_t end_of_newlines(std::string_view text, size_t position) {
  while (position < text.size() && is_newline(text[position])) ++position;
  return position;
}

// \s*[\r\n]+|\s+(?!\S)|\s+ at white space: up to the last line break of the run; without one, the run leaves its last
// character to the word that follows, unless it is the only one.
inline size_t end_of_space(const CharTable& chars, std::string_view text, size_t position, bool stop_at_newline = true) {
  size_t end = position, last = position, behind_newline = position;
  while (end < text.size()) {
    const Char c = chars.at(text, end);
    if (!c.is(kSpace)) break;
    last = end;
    end += c.bytes;
    if (is_newline(text[last])) behind_newline = end;
  }
  if (stop_at_newline && behind_newline > position) return behind_newline;
  return end == text.size() || last == position ? end : last;
}

// The length of (?i:'s|'t|'re|'ve|'m|'ll|'d) at `position` <= text.size(), or 0. Case folding takes the long s (U+017F)
// for an s.
inline size_t folded_contraction(std::string_view text, size_t position) {
  if (position + 1 >= text.size() || text[position] != '\'') return 0;
  const auto lower = [&](size_t i) { return i < text.size() ? static_cast<char>(text[i] | 0x20) : '\0'; };
  const char second = lower(position + 2);
  switch (text[position + 1] | 0x20) {
    case 's':
    case 't':
    case 'm':
    case 'd':
      return 2;
    case 'r':
    case 'v':
      return second == 'e' ? 3 : 0;
    case 'l':
      return second == 'l' ? 3 : 0;
    default:
      return text.compare(position + 1, 2, "\u017F") == 0 ? 3 : 0;
  }
}

}  // namespace switchyard::io
