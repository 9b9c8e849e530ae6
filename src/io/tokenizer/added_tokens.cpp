#include "io/tokenizer/added_tokens.h"

#include "io/tokenizer/char_class.h"

#include <algorithm>

namespace switchyard::io {
namespace {

bool has_class(CodePoint c, CharClass wanted) { return c.bytes > 0 && (char_classes(c.value) & wanted) != 0; }

// A token that must be a whole word has no word character before or behind it.
bool is_whole_word(std::string_view text, size_t begin, size_t end) {
  if (begin > 0 && has_class(decode_utf8_before(text, begin), kWord)) return false;
  return end == text.size() || !has_class(decode_utf8(text, end), kWord);
}

size_t skip_space_left(std::string_view text, size_t position, size_t limit) {
  while (position > limit) {
    const CodePoint c = decode_utf8_before(text, position);
    if (!has_class(c, kSpace)) break;
    position -= c.bytes;
  }
  return std::max(position, limit);
}

size_t skip_space_right(std::string_view text, size_t position) {
  while (position < text.size()) {
    const CodePoint c = decode_utf8(text, position);
    if (!has_class(c, kSpace)) break;
    position += c.bytes;
  }
  return position;
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(std::span<const AddedToken* const> tokens, std::vector<std::string> contents) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (contents[i].empty()) continue;
    is_empty_ = false;
    by_first_byte_[static_cast<unsigned char>(contents[i].front())].push_back({std::move(contents[i]), tokens[i]});
  }
  for (auto& patterns : by_first_byte_)
    std::stable_sort(patterns.begin(), patterns.end(),
                     [](const Pattern& a, const Pattern& b) { return a.content.size() > b.content.size(); });
}

const AddedTokenFinder::Pattern* AddedTokenFinder::match_at(std::string_view text, size_t position) const {
  for (const Pattern& pattern : by_first_byte_[static_cast<unsigned char>(text[position])])
    if (text.compare(position, pattern.content.size(), pattern.content) == 0) return &pattern;
  return nullptr;
}

void AddedTokenFinder::find(std::string_view text, std::vector<TextPart>& parts) const {
  size_t done = 0;
  for (size_t position = 0; position < text.size() && !is_empty_;) {
    const Pattern* match = match_at(text, position);
    if (match == nullptr) {
      ++position;
      continue;
    }
    const size_t end = position + match->content.size();
    const size_t begin = position;
    position = end;  // a refused match is not searched for shorter ones, as in Hugging Face tokenizers
    if (match->token->single_word && !is_whole_word(text, begin, end)) continue;
    const size_t left = match->token->lstrip ? skip_space_left(text, begin, done) : begin;
    if (left > done) parts.push_back({text.substr(done, left - done)});
    done = match->token->rstrip ? skip_space_right(text, end) : end;
    position = done;
    parts.push_back({text.substr(left, done - left), match->token});
  }
  if (done < text.size()) parts.push_back({text.substr(done)});
}

}  // namespace switchyard::io
