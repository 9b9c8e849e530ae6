// Tokenizers in GGUF metadata. The whole tokenizer.json stands under tokenizer.huggingface.json, which is read first;
// tokenizer.ggml.* is written for other programs, and read where it is all there is.
#pragma once

#include "io/gguf/gguf.h"

#include <optional>

namespace switchyard::io {

// A tokenizer.json. Nothing when the file has no tokenizer. From tokenizer.ggml.*: model "gpt2" (byte-level BPE with the word
// splitting of GPT-2, Llama 3 or Qwen 2) and "llama" (SentencePiece BPE with byte fallback; a merge is every pair of tokens whose
// concatenation is a token, best score first). Throws Error{unsupported} for any other model or splitting.
[[nodiscard]] std::optional<nlohmann::ordered_json> tokenizer_of(const GgufMetadata& metadata, const std::string& file);

// What a tokenizer_config.json says of it: chat_template, bos_token, eos_token; an empty object when nothing is known.
[[nodiscard]] nlohmann::ordered_json tokenizer_config_of(const GgufMetadata& metadata);

// Writes tokenizer.huggingface.json, and tokenizer.ggml.* for BPE with bytes as characters ("gpt2") or with byte fallback
// ("llama"); a note says when other programs will not find a form of their own. `tokenizer` may be null.
void add_tokenizer(const nlohmann::ordered_json* tokenizer, const nlohmann::ordered_json& config, const nlohmann::ordered_json& tokenizer_config,
                   GgufMetadata& metadata, std::vector<std::string>& notes);

}  // namespace switchyard::io
