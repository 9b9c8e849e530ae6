// config.json of a model and the metadata of its GGUF file, each from the other.
#pragma once

#include "io/gguf/gguf.h"
#include "io/gguf/gguf_family.h"

namespace switchyard::io {

// Which family a file is of. Error{unsupported} that lists what is known.
[[nodiscard]] const GgufFamily& family_of(const GgufMetadata& metadata, const std::string& file);

// A size under "<architecture>.<key>"; `absent` when it is not there, or Error{checkpoint}.
[[nodiscard]] int64_t gguf_size(const GgufMetadata& metadata, const GgufFamily& family, std::string_view key, const std::string& file,
                                std::optional<int64_t> absent = {});

// What a config.json of the family says. vocab_size and tie_word_embeddings are the caller's: tensors tell them. Throws
// Error{unsupported} for a key of the architecture that the table does not know: it may change what the model computes.
[[nodiscard]] nlohmann::ordered_json config_of(const GgufMetadata& metadata, const GgufFamily& family, const std::string& file);

// Keys of the architecture for a config.json; general.architecture comes first. Throws Error{config} for a missing key and
// Error{unsupported} for scaled rotary positions.
[[nodiscard]] GgufMetadata metadata_of(const nlohmann::ordered_json& config, const GgufFamily& family);

}  // namespace switchyard::io
