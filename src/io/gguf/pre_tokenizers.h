// How words are split, by the names of tokenizer.ggml.pre. Names, and which of them mean the same, are those of llama.cpp
// (src/llama-vocab.cpp); the expressions are those of the published tokenizer.json files.
#pragma once

#include <nlohmann/json.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard::io {

struct GgufPreTokenizer {
  std::string_view name;
  std::vector<std::string_view> splits;  // names of known_expressions(), one after the other; none: GPT-2's, which "ByteLevel" knows
  bool digits = false;                   // digits one by one in front
  bool ignore_merges = false;            // a word that is a token is that token
  bool nfc = false;                      // text is composed first
  bool add_bos = false;                  // where tokenizer.ggml.add_bos_token does not say
};

[[nodiscard]] const GgufPreTokenizer* find_pre_tokenizer(std::string_view name);
[[nodiscard]] std::string pre_tokenizer_names();
// "pre_tokenizer" of tokenizer.json.
[[nodiscard]] nlohmann::ordered_json splitting_of(const GgufPreTokenizer& pre);
// The other way; nothing when no name says it.
[[nodiscard]] std::optional<std::string> splitting_name(const nlohmann::ordered_json& pre_tokenizer);

}  // namespace switchyard::io
