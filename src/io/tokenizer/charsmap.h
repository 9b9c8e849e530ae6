// The character map of sentencepiece (precompiled_charsmap): byte strings to their normal forms.
//
// Layout, all little endian: uint32 size of the trie in bytes; the trie, a double array of uint32 units (darts-clone,
// https://github.com/s-yata/darts-clone); the normal forms, each ended by a zero byte. A value of the trie is the place
// of a normal form.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard::io {

class CharsMap {
 public:
  CharsMap() = default;  // maps nothing

  // Throws Error{checkpoint} that starts with `where` for sizes that do not fit.
  CharsMap(std::string_view blob, const std::string& where);

  struct Match {
    size_t bytes = 0;
    std::string_view normal;
  };
  // The shortest and the longest key that `text` begins with.
  [[nodiscard]] std::optional<Match> shortest(std::string_view text) const;
  [[nodiscard]] std::optional<Match> longest(std::string_view text) const;

 private:
  template <class Visit>
  void for_each_prefix(std::string_view text, Visit&& visit) const;

  std::vector<uint32_t> units_;
  std::string normal_;
};

// Maps a text as Hugging Face tokenizers do: grapheme clusters of fewer than 6 bytes first, otherwise their characters one by one.
void map_graphemes(const CharsMap& map, std::string& text);

}  // namespace switchyard::io
