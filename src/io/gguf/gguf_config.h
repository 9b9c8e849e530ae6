// config.json of a model and the metadata of its GGUF file, each from the other.
#pragma once

#include "io/gguf/gguf.h"
#include "io/gguf/gguf_family.h"

namespace switchyard::io {

// What a config.json of the family says. vocab_size and tie_word_embeddings are the caller's: tensors tell them. Throws
// Error{unsupported} for a key of the architecture that the table does not know: it may change what the model computes.
[[nodiscard]] nlohmann::ordered_json config_of(const GgufMetadata& metadata, const GgufFamily& family, const TensorFacts& tensors,
                                               const std::string& file);

// Keys of the architecture for a config.json; general.architecture comes first. Throws Error{config} for a missing key and
// Error{unsupported} for what GGUF cannot say.
[[nodiscard]] GgufMetadata metadata_of(const nlohmann::ordered_json& config, const GgufFamily& family);

// Sizes behind the layouts of tensors, and how many layers a file has that belong to the model.
[[nodiscard]] LayoutSizes layout_sizes(const KeyReader& file);
[[nodiscard]] int64_t layer_count(const KeyReader& file);

}  // namespace switchyard::io
