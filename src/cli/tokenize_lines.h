// Text to ids and back, one JSON object per line.
#pragma once

#include "io/tokenizer/tokenizer.h"

#include <functional>
#include <istream>
#include <string>
#include <string_view>

namespace switchyard::cli {

using LineSink = std::function<void(std::string_view line)>;

// {"text": "..."} -> {"ids": [...]}. `special`: with the beginning and end tokens that the tokenizer's template adds.
// `name` starts every error: Error{checkpoint} with the line that is no such object.
void encode_lines(std::istream& in, const std::string& name, const Tokenizer& tokenizer, bool special, const LineSink& out);

// {"ids": [...]} -> {"text": "..."}; bytes that are no UTF-8 become U+FFFD. `special`: special tokens are spelt out.
void decode_lines(std::istream& in, const std::string& name, const Tokenizer& tokenizer, bool special, const LineSink& out);

}  // namespace switchyard::cli
