#include "io/tokenizer/charsmap.h"

#include "io/tokenizer/utf8.h"
#include "switchyard/error.h"

#include <utf8proc.h>

#include <cstring>

namespace switchyard::io {
namespace {

constexpr size_t kShortGrapheme = 6;

uint32_t read_u32(std::string_view bytes, size_t position) {
  uint32_t value = 0;
  for (size_t i = 4; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[position + i]);
  return value;
}

// Fields of a unit of the double array.
bool has_leaf(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t value_of(uint32_t unit) { return unit & 0x7FFFFFFFU; }
uint32_t label_of(uint32_t unit) { return unit & 0x800000FFU; }
uint32_t offset_of(uint32_t unit) { return unit >> 10 << ((unit & 0x200U) >> 6); }

// The end of the grapheme cluster at `position` of valid UTF-8.
size_t end_of_grapheme(std::string_view text, size_t position) {
  CodePoint last = decode_utf8(text, position);
  utf8proc_int32_t state = 0;
  for (position += last.bytes; position < text.size(); position += last.bytes) {
    const CodePoint next = decode_utf8(text, position);
    if (utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(last.value), static_cast<utf8proc_int32_t>(next.value), &state)) break;
    last = next;
  }
  return position;
}

void map_valid(const CharsMap& map, std::string_view text, std::string& out) {
  for (size_t begin = 0, end = 0; begin < text.size(); begin = end) {
    end = end_of_grapheme(text, begin);
    const std::string_view grapheme = text.substr(begin, end - begin);
    if (grapheme.size() < kShortGrapheme) {
      if (const auto match = map.shortest(grapheme)) {
        out += match->normal;
        continue;
      }
    }
    for (size_t at = 0, bytes = 0; at < grapheme.size(); at += bytes) {
      bytes = decode_utf8(grapheme, at).bytes;
      const std::string_view character = grapheme.substr(at, bytes);
      const auto match = map.shortest(character);
      out += match ? match->normal : character;
    }
  }
}

}  // namespace

CharsMap::CharsMap(std::string_view blob, const std::string& where) {
  if (blob.empty()) return;
  const uint32_t trie_bytes = blob.size() < 4 ? 0 : read_u32(blob, 0);
  if (blob.size() < 4 || trie_bytes % 4 != 0 || trie_bytes > blob.size() - 4)
    fail(ErrorKind::checkpoint, "{}: damaged character map: {} bytes, a trie of {}", where, blob.size(), trie_bytes);
  for (size_t i = 4; i < 4 + trie_bytes; i += 4) units_.push_back(read_u32(blob, i));
  normal_ = blob.substr(4 + trie_bytes);
  if (!normal_.empty() && normal_.back() != '\0') fail(ErrorKind::checkpoint, "{}: damaged character map: its last text has no end", where);
}

template <class Visit>
void CharsMap::for_each_prefix(std::string_view text, Visit&& visit) const {
  if (units_.empty()) return;
  size_t node = offset_of(units_[0]);
  for (size_t length = 1; length <= text.size(); ++length) {
    const auto byte = static_cast<unsigned char>(text[length - 1]);
    node ^= byte;
    if (byte == 0 || node >= units_.size() || label_of(units_[node]) != byte) return;
    const uint32_t unit = units_[node];
    node ^= offset_of(unit);
    if (!has_leaf(unit)) continue;
    if (node >= units_.size() || value_of(units_[node]) >= normal_.size()) return;
    const char* normal = normal_.data() + value_of(units_[node]);
    if (!visit(Match{length, {normal, std::strlen(normal)}})) return;
  }
}

std::optional<CharsMap::Match> CharsMap::shortest(std::string_view text) const {
  std::optional<Match> found;
  for_each_prefix(text, [&](Match match) {
    found = match;
    return false;
  });
  return found;
}

std::optional<CharsMap::Match> CharsMap::longest(std::string_view text) const {
  std::optional<Match> found;
  for_each_prefix(text, [&](Match match) {
    found = match;
    return true;
  });
  return found;
}

void map_graphemes(const CharsMap& map, std::string& text) {
  std::string out;
  for (size_t position = 0; position < text.size();) {
    const Stretch stretch = next_stretch(text, position);
    position += stretch.text.size();
    if (stretch.is_valid) {
      map_valid(map, stretch.text, out);
    } else {
      out += stretch.text;
    }
  }
  text = std::move(out);
}

}  // namespace switchyard::io
