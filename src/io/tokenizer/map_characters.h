// Rewriting of a text character by character.
#pragma once

#include "io/tokenizer/utf8.h"

namespace switchyard::io {

// Calls map(code_point, out) for every character of `text`; `out` becomes the text. Bytes that are no UTF-8 are copied.
template <class Map>
void map_characters(std::string& text, Map&& map) {
  std::string out;
  out.reserve(text.size());
  for (size_t position = 0; position < text.size();) {
    const CodePoint c = decode_utf8(text, position);
    if (c.bytes == 0) {
      out += text[position++];
      continue;
    }
    map(c.value, out);
    position += c.bytes;
  }
  text = std::move(out);
}

// Keeps the characters for which keep(code_point).
template <class Keep>
void filter_characters(std::string& text, Keep&& keep) {
  map_characters(text, [&](char32_t c, std::string& out) {
    if (keep(c)) append_utf8(out, c);
  });
}

// Small letters, character by character, as Rust's char::to_lowercase.
void append_lower(char32_t c, std::string& out);

}  // namespace switchyard::io
