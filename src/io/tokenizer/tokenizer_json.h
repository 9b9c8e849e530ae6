// tokenizer.json (the file format of Hugging Face tokenizers) to values and back. docs/tokenizers.md lists what is known.
// Components are read where they are run: normalizer.h, pre_tokenizer.h, token_template.h, decoder.h. `truncation` and
// `padding` concern batches and are the caller's business: they are not read.
#pragma once

#include "io/tokenizer/tokenizer_spec.h"

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>

namespace switchyard::io {

// Throws Error{checkpoint} "name: key: expected ..., found ..." and Error{unsupported} for a model that is not known.
[[nodiscard]] TokenizerSpec read_tokenizer_json(std::string_view text, const std::string& name);

// What read_tokenizer_json reads back to an equal value.
[[nodiscard]] nlohmann::ordered_json write_tokenizer_json(const TokenizerSpec& spec);

// Our own keys in a model: BpeSpec::rank_by_id; TokenizerSpec::sentencepiece_model in base64.
inline constexpr const char* kRankByIdKey = "switchyard_rank_by_id";
inline constexpr const char* kSentencePieceKey = "switchyard_sentencepiece_model";

}  // namespace switchyard::io
