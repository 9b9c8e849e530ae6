#include "io/tokenizer/char_class.h"
#include "io/tokenizer/splitter.h"
#include "io/tokenizer/utf8.h"

#include <array>

namespace switchyard::io {
namespace {

// A code point is a letter, a number, white space, or anything else (0).
constexpr uint8_t kClasses = kLetter | kNumber | kSpace;

struct Char {
  uint8_t kind = 0;
  size_t bytes = 0;
};

Char char_at(std::string_view text, size_t position) {
  const CodePoint c = decode_utf8(text, position);
  return {static_cast<uint8_t>(char_classes(c.value) & kClasses), c.bytes};
}

// Length of the contraction at `position`, or 0.
size_t contraction(std::string_view text, size_t position) {
  if (text[position] != '\'') return 0;
  static constexpr std::array<std::string_view, 7> kEndings{"s", "t", "re", "ve", "m", "ll", "d"};
  for (const std::string_view ending : kEndings)
    if (text.compare(position + 1, ending.size(), ending) == 0) return 1 + ending.size();
  return 0;
}

size_t end_of_run(std::string_view text, size_t position, uint8_t kind) {
  while (position < text.size()) {
    const Char c = char_at(text, position);
    if (c.kind != kind) break;
    position += c.bytes;
  }
  return position;
}

// White space leaves its last character to the word that follows, unless it is the only one.
size_t end_of_space(std::string_view text, size_t position) {
  size_t end = position, last = position;
  while (end < text.size()) {
    const Char c = char_at(text, end);
    if (c.kind != kSpace) return last > position ? last : end;
    last = end;
    end += c.bytes;
  }
  return end;
}

size_t end_of_word(std::string_view text, size_t position) {
  if (const size_t length = contraction(text, position)) return position + length;
  const bool has_space = text[position] == ' ' && position + 1 < text.size();
  const size_t start = has_space ? position + 1 : position;
  const uint8_t kind = char_at(text, start).kind;
  return kind == kSpace ? end_of_space(text, position) : end_of_run(text, start, kind);
}

class Gpt2Splitter final : public Splitter {
 public:
  void split(std::string_view text, std::vector<std::string_view>& words) const override {
    for (size_t position = 0; position < text.size();) {
      const size_t end = end_of_word(text, position);
      words.push_back(text.substr(position, end - position));
      position = end;
    }
  }
};

}  // namespace

const char* const kGpt2Expression = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

std::unique_ptr<Splitter> make_gpt2_splitter() { return std::make_unique<Gpt2Splitter>(); }

}  // namespace switchyard::io
