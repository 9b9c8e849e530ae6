#include "io/tokenizer/token_cuts.h"

#include "io/tokenizer/utf8.h"

#include <algorithm>

namespace switchyard::io {
namespace {

constexpr int32_t kNoCharacter = 0x110000;

struct Next {
  int32_t value = kNoCharacter;
  size_t bytes = 1;
};

Next next_character(std::string_view text, size_t position) {
  const CodePoint c = decode_utf8(text, position);
  if (c.bytes == 0) return {};
  return {static_cast<int32_t>(c.value), c.bytes};
}

}  // namespace

void TokenCuts::add_token(std::string_view token) {
  int32_t last = kNoCharacter;
  for (size_t position = 0; position < token.size();) {
    const Next next = next_character(token, position);
    if (position > 0) together_.add(last, next.value, {});
    last = next.value;
    position += next.bytes;
  }
}

void TokenCuts::split(std::string_view text, std::vector<std::string_view>& words) const {
  size_t begin = 0;
  int32_t last = kNoCharacter;
  for (size_t position = 0; position < text.size();) {
    const Next next = next_character(text, position);
    if (position > begin && together_.get(last, next.value) == nullptr) {
      words.push_back(text.substr(begin, position - begin));
      begin = position;
    }
    last = next.value;
    position += next.bytes;
  }
  if (begin < text.size()) words.push_back(text.substr(begin));
}

}  // namespace switchyard::io
