// Finds added tokens in a text: leftmost first, of several at one place the longest.
#pragma once

#include "io/tokenizer/byte_trie.h"
#include "io/tokenizer/tokenizer_spec.h"

#include <array>
#include <span>
#include <string_view>
#include <vector>

namespace switchyard::io {

// A part of a text: an added token, or what lies between.
struct TextPart {
  std::string_view text;
  const AddedToken* token = nullptr;
};

class AddedTokenFinder {
 public:
  // `contents[i]` is what tokens[i] looks like in the text (its normal form where the text is normalised). Empty ones are
  // never found. The tokens must outlive the finder.
  AddedTokenFinder(std::span<const AddedToken* const> tokens, std::vector<std::string> contents);

  // Appends the parts of `text`; parts without bytes are left out, except tokens.
  void find(std::string_view text, std::vector<TextPart>& parts) const;

 private:
  [[nodiscard]] size_t next_candidate(std::string_view text, size_t position) const;

  std::vector<const AddedToken*> tokens_;
  ByteTrie trie_;  // contents to indices of tokens_
  std::array<bool, 256> may_begin_{};
  std::string first_bytes_;
};

}  // namespace switchyard::io
