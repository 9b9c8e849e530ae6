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

AddedTokenFinder::AddedTokenFinder(std::span<const AddedToken* const> tokens, std::vector<std::string> contents)
    : tokens_(tokens.begin(), tokens.end()) {
  std::vector<std::pair<std::string, int32_t>> keys;
  for (size_t i = 0; i < contents.size(); ++i) {
    if (contents[i].empty()) continue;
    bool& is_known = may_begin_[static_cast<unsigned char>(contents[i].front())];
    if (!is_known) first_bytes_ += contents[i].front();
    is_known = true;
    keys.emplace_back(std::move(contents[i]), static_cast<int32_t>(i));
  }
  trie_ = ByteTrie(std::move(keys));
}

// The next place at or behind `position` where a token may begin; text.size() when there is none.
size_t AddedTokenFinder::next_candidate(std::string_view text, size_t position) const {
  if (first_bytes_.size() == 1) return std::min(text.find(first_bytes_[0], position), text.size());  // most vocabularies: '<'
  while (position < text.size() && !may_begin_[static_cast<unsigned char>(text[position])]) ++position;
  return position;
}

void AddedTokenFinder::find(std::string_view text, std::vector<TextPart>& parts) const {
  size_t done = 0;
  for (size_t position = 0; position < text.size() && !first_bytes_.empty();) {
    const size_t begin = position = next_candidate(text, position);
    size_t length = 0;
    int32_t index = -1;
    trie_.for_each_prefix(text, begin, [&](size_t bytes, int32_t found) { length = bytes, index = found; });
    if (index < 0) {
      ++position;
      continue;
    }
    const AddedToken* token = tokens_[static_cast<size_t>(index)];
    const size_t end = begin + length;
    position = end;  // a refused match is not searched for shorter ones, as in Hugging Face tokenizers
    if (token->single_word && !is_whole_word(text, begin, end)) continue;
    const size_t left = token->lstrip ? skip_space_left(text, begin, done) : begin;
    if (left > done) parts.push_back({text.substr(done, left - done)});
    done = token->rstrip ? skip_space_right(text, end) : end;
    position = done;
    parts.push_back({text.substr(left, done - left), token});
  }
  if (done < text.size()) parts.push_back({text.substr(done)});
}

}  // namespace switchyard::io
