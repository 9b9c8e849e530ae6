// What lies in a checkpoint, from its headers alone: no weights are read.
#pragma once

#include "io/dtype.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace switchyard::cli {

struct StoredTensor {
  std::string name, dtype, file;
  std::vector<int64_t> shape;
  int64_t bytes = 0;
};

struct CheckpointSummary {
  std::filesystem::path path;
  std::string model_type;           // "" when there is no config.json
  nlohmann::ordered_json config;    // its scalars, in the order of the file
  std::map<std::string, std::string> metadata;  // of the first tensor file
  std::vector<StoredTensor> tensors;
  std::vector<std::string> files;   // other files of the folder: tokenizer, training state, ...
  int64_t num_values = 0, num_bytes = 0;
  std::map<std::string, int64_t> values_by_dtype;
  nlohmann::ordered_json gguf;      // metadata of a GGUF file with their types' values, long lists cut; null for other files
};

// `path`: a folder, a .safetensors or a GGUF file. Throws Error{checkpoint} for damaged headers, or when there is nothing.
[[nodiscard]] CheckpointSummary summarise_checkpoint(const std::filesystem::path& path);

}  // namespace switchyard::cli
