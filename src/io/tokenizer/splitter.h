// Splitting of text into words, which merges never cross.
#pragma once

#include "io/tokenizer/tokenizer_spec.h"

#include <memory>
#include <string_view>
#include <vector>

namespace switchyard::io {

class Splitter {
 public:
  virtual ~Splitter() = default;
  // Appends the words of `text`, valid UTF-8, in order. Safe to call from several threads.
  virtual void split(std::string_view text, std::vector<std::string_view>& words) const = 0;
};

// The expression of GPT-2,
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// written by hand. tests/io/tokenizer/splitter_test.cpp compares it with the expression.
[[nodiscard]] std::unique_ptr<Splitter> make_gpt2_splitter();

// A rule of a tokenizer.json. Throws Error{checkpoint} that starts with `where` for an expression that Oniguruma
// refuses; split() throws Error{checkpoint} for one that runs away on a text.
[[nodiscard]] std::unique_ptr<Splitter> make_splitter(const SplitRule& rule, const std::string& where);

extern const char* const kGpt2Expression;

}  // namespace switchyard::io
