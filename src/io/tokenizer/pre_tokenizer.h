// Pre-tokenizers of tokenizer.json: a text to words, which tokens never cross.
#pragma once

#include "io/strict_json.h"
#include "io/tokenizer/splitter.h"

#include <deque>
#include <functional>
#include <optional>

namespace switchyard::io {

class PreTokenizer {
 public:
  // A step may write a word anew (with a space or meta space in front), and then splits it.
  struct Step {
    std::function<std::optional<std::string>(std::string_view word, bool is_start)> rewrite;  // empty: the word stays
    std::unique_ptr<Splitter> splitter;
  };

  // Working memory, reused between texts. The words point into the text and into `texts`.
  struct Words {
    std::vector<std::string_view> words, finer;
    std::deque<std::string> texts;
  };

  PreTokenizer() = default;  // every text is one word
  // Throws Error{checkpoint} that names the key, and Error{unsupported} for a type that is not known.
  explicit PreTokenizer(const JsonAt& component);

  // The words of `text`, any bytes; those that are no UTF-8 are words of their own where a step looks at characters.
  // `is_start`: it is the beginning of what the caller tokenizes.
  void split(std::string_view text, bool is_start, Words& out) const;

  // Ends with the step ByteLevel: words are bytes for a vocabulary in the alphabet of byte_alphabet.h.
  [[nodiscard]] bool is_byte_level() const noexcept { return is_byte_level_; }

 private:
  std::vector<Step> steps_;
  bool is_byte_level_ = false;
};

}  // namespace switchyard::io
