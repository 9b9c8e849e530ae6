// .tiktoken files: lines "base64 of a token, blank, rank". Two tokens merge when their text is a token, the lowest rank
// first; ranks are ids. The split expression and the special tokens are not in the file: they belong to a named encoding.
#pragma once

#include "io/tokenizer/tokenizer_spec.h"

#include <span>
#include <string>
#include <string_view>

namespace switchyard::io {

struct TiktokenEncoding {
  std::string_view name;
  std::string_view pattern;
  std::span<const std::pair<std::string_view, int32_t>> special;
  std::string_view begin;  // special token in front of a text, by the encoding's template
};

// The encoding of this name, or that a file "name.tiktoken" is known to have. nullptr: not known.
[[nodiscard]] const TiktokenEncoding* find_tiktoken_encoding(std::string_view name);
[[nodiscard]] std::string tiktoken_encoding_names();  // for messages

// The first line is a base64 word, a blank and a number.
[[nodiscard]] bool looks_like_tiktoken(std::string_view text);

// Throws Error{checkpoint} that starts with `name` and the line.
[[nodiscard]] TokenizerSpec read_tiktoken(std::string_view text, const TiktokenEncoding& encoding, const std::string& name);

}  // namespace switchyard::io
