#include "io/tokenizer/sentencepiece_normalizer.h"

#include "io/tokenizer/utf8.h"

namespace switchyard::io {

SentencePieceNormalizer::SentencePieceNormalizer(const SentencePieceSpec& spec, const std::string& name)
    : map_(spec.charsmap, name + ": normalizer_spec.precompiled_charsmap"),
      add_prefix_(spec.add_dummy_prefix && !spec.treat_whitespace_as_suffix),
      add_suffix_(spec.add_dummy_prefix && spec.treat_whitespace_as_suffix),
      collapse_(spec.remove_extra_whitespaces),
      space_(spec.escape_whitespaces ? kMetaSpace : std::string_view(" ")) {
  std::vector<std::pair<std::string, int32_t>> user;
  for (const auto& piece : spec.pieces)
    if (piece.type == SentencePieceSpec::Type::user_defined) user.emplace_back(piece.text, 0);
  user_pieces_ = ByteTrie(std::move(user));
}

CharsMap::Match SentencePieceNormalizer::next(std::string_view text) const {
  size_t user = 0;
  user_pieces_.for_each_prefix(text, 0, [&](size_t length, int32_t) { user = length; });
  if (user > 0) return {user, text.substr(0, user)};
  if (const auto match = map_.longest(text)) return *match;
  const size_t bytes = decode_utf8(text, 0).bytes;
  if (bytes == 0) return {1, "\uFFFD"};
  return {bytes, text.substr(0, bytes)};
}

std::string SentencePieceNormalizer::operator()(std::string_view text) const {
  std::string out;
  while (collapse_ && !text.empty()) {
    const auto first = next(text);
    if (first.normal != " ") break;
    text.remove_prefix(first.bytes);
  }
  if (text.empty()) return out;
  if (add_prefix_) out += space_;
  bool behind_space = collapse_;
  while (!text.empty()) {
    auto [bytes, normal] = next(text);
    while (behind_space && !normal.empty() && normal.front() == ' ') normal.remove_prefix(1);
    for (const char c : normal) {
      if (c == ' ') {
        out += space_;
      } else {
        out += c;
      }
    }
    if (!normal.empty()) behind_space = collapse_ && normal.back() == ' ';
    text.remove_prefix(bytes);
  }
  while (collapse_ && out.ends_with(space_)) out.resize(out.size() - space_.size());
  if (add_suffix_) out += space_;
  return out;
}

}  // namespace switchyard::io
