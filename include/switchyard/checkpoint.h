// A model on disk: a Hugging Face style folder (config.json, model.safetensors or shards with an index, tokenizer.json),
// and beside them, for a run that goes on, training_state.safetensors.
#pragma once

#include "switchyard/language_model.h"

#include <filesystem>
#include <map>
#include <memory>
#include <string>

namespace switchyard {

class Tokenizer;

struct Checkpoint {
  std::shared_ptr<LanguageModel> model;
  std::shared_ptr<const Tokenizer> tokenizer = {};  // null when the folder has none
  std::string family = {};                 // that it was loaded as; empty for a new model
  nlohmann::ordered_json config = {};      // its config.json; saving as the same family keeps keys that the family does not write
  // Optimiser moments, step, data cursor...: named tensors and a JSON of scalars. Empty for a model that is only used.
  std::map<std::string, torch::Tensor> training_tensors = {};
  nlohmann::ordered_json training_state = {};
};

struct SaveOptions {
  std::string family = "auto";       // auto | a family name | switchyard
  std::string dtype = "float32";     // float32 | bfloat16 | float16: of the stored weights
  int64_t max_shard_bytes = 5'000'000'000;
  std::vector<std::filesystem::path> side_files = {};  // copied beside the weights under their names
  std::string layout = "published";  // | stacked: all experts of a layer in one tensor, where the family has that
};

// Opens a folder. Throws Error{checkpoint} that lists missing tensors, tensors that do not belong, wrong shapes (found and
// expected, with the config key), non-finite weights; Error{unsupported} for config.json keys that change the mathematics
// and are not supported.
// `weights` says how the model keeps its large matrices: plain, as parameters that can be trained and saved; or packed for a model
// that only computes forward (LanguageModel::pack_weights), float32, bfloat16, int8, int4, or auto: bfloat16 where the folder
// stores 16-bit floats, else float32. Matrices are packed while others are still on the disk, so that a model needs no more
// memory than its packed form and one layer.
[[nodiscard]] Checkpoint load_checkpoint(const std::filesystem::path& folder, bool with_training_state = false, const std::string& weights = "plain");
// The specification alone: reads config.json, touches no weights.
[[nodiscard]] ModelSpec load_spec(const std::filesystem::path& folder);

// Writes the whole folder or nothing (a kill at any moment leaves the previous one). "auto" takes the first family whose
// config.json can say everything in the spec, else model_type "switchyard". A named family that cannot is refused with
// Error{unsupported} naming the key.
void save_checkpoint(const Checkpoint& checkpoint, const std::filesystem::path& folder, const SaveOptions& options = {});

}  // namespace switchyard
