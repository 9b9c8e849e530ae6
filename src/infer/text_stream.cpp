#include "infer/text_stream.h"

#include <algorithm>
#include <cstdint>

namespace switchyard {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// How many bytes at the head of `text` belong together: a whole character, or the longest beginning of one.
struct Head {
  size_t size = 1;
  bool whole = false;    // a well-formed character
  bool cut_off = false;  // ends with the text, and could go on
};

// Well-formed byte sequences: Unicode 15, table 3-7.
Head first_character(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return {1, true, false};
  if (lead < 0xC2 || lead > 0xF4) return {};
  const size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  for (size_t i = 1; i < length; ++i) {
    if (i == text.size()) return {i, false, true};
    uint8_t low = 0x80, high = 0xBF;
    if (i == 1) {
      if (lead == 0xE0) low = 0xA0;
      if (lead == 0xED) high = 0x9F;
      if (lead == 0xF0) low = 0x90;
      if (lead == 0xF4) high = 0x8F;
    }
    if (byte(i) < low || byte(i) > high) return {i, false, false};
  }
  return {length, true, false};
}

// Length of the longest end of `text` that is a beginning of `word`, the whole word excluded.
size_t overlap(std::string_view text, std::string_view word) {
  for (size_t n = std::min(text.size(), word.size() - 1); n > 0; --n)
    if (text.substr(text.size() - n) == word.substr(0, n)) return n;
  return 0;
}

}  // namespace

std::string take_valid_utf8(std::string& text, bool keep_tail) {
  std::string out;
  size_t at = 0;
  while (at < text.size()) {
    const Head head = first_character(std::string_view(text).substr(at));
    if (head.cut_off && keep_tail) break;
    if (head.whole) out.append(text, at, head.size);
    else out += kReplacement;
    at += head.size;
  }
  text.erase(0, at);
  return out;
}

TextStream::TextStream(std::vector<std::string> stop_strings) : stops_(std::move(stop_strings)) {
  stops_.erase(std::remove(stops_.begin(), stops_.end(), ""), stops_.end());
}

std::string TextStream::push(std::string_view bytes) {
  if (stopped_) return "";
  held_ += bytes;
  size_t first_stop = std::string::npos, hold = 0;
  for (const auto& stop : stops_) {
    first_stop = std::min(first_stop, held_.find(stop));
    hold = std::max(hold, overlap(held_, stop));
  }
  if (first_stop != std::string::npos) {
    stopped_ = true;
    std::string rest = held_.substr(0, first_stop);
    held_.clear();
    return take_valid_utf8(rest, /*keep_tail=*/false);
  }
  std::string ready = held_.substr(0, held_.size() - hold);
  const std::string kept = held_.substr(ready.size());
  std::string shown = take_valid_utf8(ready, /*keep_tail=*/true);
  held_ = ready + kept;
  return shown;
}

std::string TextStream::finish() {
  std::string rest = std::move(held_);
  held_.clear();
  return stopped_ ? "" : take_valid_utf8(rest, /*keep_tail=*/false);
}

}  // namespace switchyard
