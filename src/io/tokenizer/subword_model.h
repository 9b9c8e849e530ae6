// The last step of encoding: a word to the tokens of the vocabulary.
#pragma once

#include "io/tokenizer/bpe_merger.h"
#include "io/tokenizer/splitter.h"
#include "io/tokenizer/tokenizer_spec.h"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard::io {

class SubwordModel {
 public:
  // Working memory, reused between words.
  struct Scratch {
    struct Step {
      double score = 0;
      int32_t begin = -1, id = -1;
    };
    BpeMerger::Scratch merging;
    std::vector<int32_t> ids;
    std::vector<Step> path;
    std::string text;
  };

  virtual ~SubwordModel() = default;

  // Appends the ids of `word`, any bytes. Throws Error{unsupported} for a character that has no token when there is no
  // unknown token either. Safe to call from several threads, each with its scratch.
  virtual void encode(std::string_view word, std::vector<int32_t>& ids, Scratch& scratch) const = 0;

  // Cuts a word where no token can lie across: its parts have the same ids. nullptr: there are no such places.
  [[nodiscard]] virtual const Splitter* cuts() const noexcept { return nullptr; }
};

// `is_byte_level`: words are bytes, tokens are spelt in the alphabet of byte_alphabet.h. Throws Error{checkpoint} that
// starts with `name` when the parts of the vocabulary contradict one another.
[[nodiscard]] std::unique_ptr<SubwordModel> make_bpe_model(const BpeSpec& spec, bool is_byte_level, const std::string& name);
[[nodiscard]] std::unique_ptr<SubwordModel> make_unigram_model(const UnigramSpec& spec, const std::string& name);
[[nodiscard]] std::unique_ptr<SubwordModel> make_word_piece_model(const WordPieceSpec& spec, const std::string& name);

}  // namespace switchyard::io
