// A model as it is stored, whatever the storage: the values of a config.json, tensors by their Hugging Face names, a
// tokenizer.json. Families and converters see only this.
#pragma once

#include "io/tensor_store.h"
#include "switchyard/config.h"

#include <nlohmann/json.hpp>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

namespace switchyard::io {

struct StoredModel {
  std::filesystem::path path;
  std::string config_name;                 // for errors: the file that says what `config` says
  ConfigNode config;                       // without quantization_config where the tensors are decoded here
  std::shared_ptr<const TensorStore> tensors;
  std::optional<std::string> tokenizer;    // text of a tokenizer.json
  std::string tokenizer_name;              // for errors
  nlohmann::ordered_json own_tokenizer_config = nlohmann::ordered_json::object();  // from the metadata of a GGUF file
  bool single_file = false;                // no folder: side files stand in the fields above
};

// A folder with config.json and safetensors, a .gguf file, or a .bin of llama2.c. Reads headers only; weights are decoded when they are asked for.
// Throws Error{io} when there is no config.json, Error{checkpoint} for what is damaged, and what the GGUF reader throws.
[[nodiscard]] StoredModel open_stored_model(const std::filesystem::path& path);

// Whether the path is such a file, not a folder.
[[nodiscard]] bool is_single_file_model(const std::filesystem::path& path);

// The configuration alone: no tensors of a folder are opened.
[[nodiscard]] StoredModel open_stored_config(const std::filesystem::path& path);

// What tokenizer_config.json says (chat_template, bos_token, ...; a chat_template.jinja beside it comes first), or the metadata of
// a GGUF file; an empty object when there is nothing. Throws Error{checkpoint} when it is no JSON object.
[[nodiscard]] nlohmann::ordered_json read_tokenizer_config(const StoredModel& model);

}  // namespace switchyard::io
