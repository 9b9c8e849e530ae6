// The content of a tokenizer.json as values: what the reader produces, the tokenizer runs, and the writer prints.
#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <variant>
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

// Byte-pair encoding. A merge is a pair of tokens whose concatenation (without the prefix of the second) is a token, best
// first.
struct BpeSpec {
  std::map<std::string, int32_t> vocab;
  std::vector<std::pair<std::string, std::string>> merges;
  std::optional<std::string> unk_token;
  std::string continuing_subword_prefix, end_of_word_suffix;
  bool fuse_unk = false;       // one unknown token for a run of unknown characters
  bool byte_fallback = false;  // tokens <0x00> ... <0xFF> stand for the bytes of unknown characters
  bool ignore_merges = false;  // a whole word that is a token needs no merges
  // Instead of a list: every pair of tokens whose concatenation is a token, ranked by its id (.tiktoken files).
  bool rank_by_id = false;
  bool operator==(const BpeSpec&) const = default;
};

// Pieces with their logarithmic probabilities; the id is the position.
struct UnigramSpec {
  std::vector<std::pair<std::string, double>> pieces;
  std::optional<int32_t> unk_id;
  bool byte_fallback = false;
  bool operator==(const UnigramSpec&) const = default;
};

struct WordPieceSpec {
  std::map<std::string, int32_t> vocab;
  std::string unk_token = "[UNK]", continuing_subword_prefix = "##";
  int64_t max_input_chars_per_word = 100;
  bool operator==(const WordPieceSpec&) const = default;
};

struct TokenizerSpec {
  std::vector<AddedToken> added_tokens;
  // As the file spells them; null when there is none.
  nlohmann::json normalizer, pre_tokenizer, post_processor, decoder;
  std::variant<BpeSpec, UnigramSpec, WordPieceSpec> model;
  // The sentencepiece .model file that the rest was converted from; it counts then. Empty: none.
  std::string sentencepiece_model;
  bool operator==(const TokenizerSpec&) const = default;
};

}  // namespace switchyard::io
