// tokenizer.json (the file format of Hugging Face tokenizers) to values and back.
//
// Known: model BPE without dropout, prefixes or byte fallback; normalizers NFC, NFD, NFKC, NFKD; pre-tokenizers ByteLevel,
// Split (Isolated, Removed), Digits; decoder ByteLevel; post-processors ByteLevel and TemplateProcessing; Sequence of
// each. `truncation` and `padding` concern batches and are the caller's business: they are not read.
#pragma once

#include "io/tokenizer/tokenizer_spec.h"

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>

namespace switchyard::io {

// Throws Error{checkpoint} "name: key: expected ..., found ..." and Error{unsupported} for a component that is not known.
[[nodiscard]] TokenizerSpec read_tokenizer_json(std::string_view text, const std::string& name);

// What read_tokenizer_json reads back to an equal value.
[[nodiscard]] nlohmann::ordered_json write_tokenizer_json(const TokenizerSpec& spec);

}  // namespace switchyard::io
