// The content of a tokenizer.json as values: what the reader produces, the tokenizer runs, and the writer prints.
#pragma once

#include "io/tokenizer/utf8.h"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace switchyard::io {

// A token that is found in the text itself, before any splitting.
struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool single_word = false;       // not inside a longer word
  bool lstrip = false;            // swallows white space on its left
  bool rstrip = false;            // and on its right
  bool normalized = false;        // sought in the normalised text
  bool special = false;           // left out by decode(skip_special)
  bool operator==(const AddedToken&) const = default;
};

struct SplitRule {
  enum class Keep { all, gaps };  // "Isolated": matches and what lies between are words; "Removed": only what lies between
  std::string pattern;
  bool is_regex = true;  // otherwise a literal
  Keep keep = Keep::all;
  bool invert = false;   // exchanges matches and gaps
  bool operator==(const SplitRule&) const = default;
};

struct TemplateToken {
  std::string name;
  int32_t id = 0;
  bool operator==(const TemplateToken&) const = default;
};

struct TokenizerSpec {
  std::vector<AddedToken> added_tokens;
  std::vector<NormalForm> normalizers;
  std::vector<SplitRule> splits;  // in sequence, before the byte-level step
  bool add_prefix_space = false;
  bool use_gpt2_split = true;
  std::vector<TemplateToken> prefix, suffix;  // around the text, when the caller asks for the template

  // Model: tokens in the byte alphabet; a merge is a pair of tokens whose concatenation is a token, best first.
  std::map<std::string, int32_t> vocab;
  std::vector<std::pair<std::string, std::string>> merges;
  bool ignore_merges = false;  // a whole word that is a token needs no merges
  bool operator==(const TokenizerSpec&) const = default;
};

}  // namespace switchyard::io
