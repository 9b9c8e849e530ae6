#include "io/tokenizer/utf8.h"

#include "switchyard/error.h"

#include <utf8proc.h>

#include <cstdlib>
#include <cstring>
#include <memory>

namespace switchyard::io {
namespace {

int options_of(NormalForm form) {
  switch (form) {
    case NormalForm::nfc: return UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    case NormalForm::nfd: return UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
    case NormalForm::nfkc: return UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT;
    case NormalForm::nfkd: return UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT;
  }
  return UTF8PROC_STABLE;
}

// The first byte at or behind `position` that may be no ASCII; eight at a time.
size_t skip_ascii(std::string_view text, size_t position) {
  for (uint64_t eight = 0; position + sizeof eight <= text.size(); position += sizeof eight) {
    std::memcpy(&eight, text.data() + position, sizeof eight);
    if ((eight & 0x8080808080808080U) != 0) break;
  }
  while (position < text.size() && static_cast<unsigned char>(text[position]) < 0x80) ++position;
  return position;
}

}  // namespace

// Table 3-7 of the Unicode standard, "Well-Formed UTF-8 Byte Sequences".
CodePoint decode_utf8(std::string_view text, size_t position) noexcept {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[position + i]); };
  const size_t left = text.size() - position;
  const unsigned char first = byte(0);
  if (first < 0x80) return {first, 1};
  const size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || left < length) return {};
  char32_t value = first & (0xFFU >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return {};
    value = (value << 6) | (byte(i) & 0x3FU);
  }
  const bool overlong = (length == 3 && value < 0x800) || (length == 4 && value < 0x10000);
  if (overlong || (value >= 0xD800 && value <= 0xDFFF) || value > 0x10FFFF) return {};
  return {value, length};
}

CodePoint decode_utf8_before(std::string_view text, size_t position) noexcept {
  size_t start = position - 1;
  while (start > 0 && position - start < 4 && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80) --start;
  return decode_utf8(text.substr(0, position), start);
}

Stretch next_stretch(std::string_view text, size_t position) noexcept {
  if (position >= text.size()) return {};
  const bool is_valid = decode_utf8(text, position).bytes > 0;
  size_t end = position;
  while (end < text.size()) {
    if (is_valid) end = skip_ascii(text, end);
    if (end == text.size()) break;
    const size_t bytes = decode_utf8(text, end).bytes;
    if ((bytes > 0) != is_valid) break;
    end += is_valid ? bytes : 1;
  }
  return {text.substr(position, end - position), is_valid};
}

void append_utf8(std::string& out, char32_t code_point) {
  utf8proc_uint8_t bytes[4];
  const auto count = utf8proc_encode_char(static_cast<utf8proc_int32_t>(code_point), bytes);
  out.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(count));
}

namespace {

void append_normal(std::string& out, std::string_view text, NormalForm form) {
  utf8proc_uint8_t* mapped = nullptr;
  const auto length = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()), &mapped,
                                   static_cast<utf8proc_option_t>(options_of(form)));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(mapped, &std::free);
  if (length < 0) fail(ErrorKind::internal, "Unicode normalisation: {}", utf8proc_errmsg(length));
  out.append(reinterpret_cast<const char*>(mapped), static_cast<size_t>(length));
}

}  // namespace

// An ASCII character has no part in what stands before it: the text is taken in pieces of one such character and the
// others behind it. ASCII alone is normal.
std::string normalize(std::string_view text, NormalForm form) {
  const auto is_ascii = [&](size_t at) { return static_cast<unsigned char>(text[at]) < 0x80; };
  std::string out;
  out.reserve(text.size());
  for (size_t position = 0; position < text.size();) {
    const size_t behind_ascii = skip_ascii(text, position);
    const size_t begin = behind_ascii == text.size() || behind_ascii == position ? behind_ascii : behind_ascii - 1;
    out += text.substr(position, begin - position);
    size_t end = behind_ascii;
    while (end < text.size() && !is_ascii(end)) ++end;
    for (position = begin; position < end;) {
      const Stretch stretch = next_stretch(text.substr(0, end), position);
      position += stretch.text.size();
      if (stretch.is_valid) {
        append_normal(out, stretch.text, form);
      } else {
        out += stretch.text;
      }
    }
  }
  return out;
}

}  // namespace switchyard::io
