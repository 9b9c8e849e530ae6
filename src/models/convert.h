// A stored model in another form: folder to folder, folder to GGUF, GGUF to folder. Tensors go over one at a time.
#pragma once

#include "io/quant/block_format.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace switchyard {

struct ConvertOptions {
  std::string family;         // of the result; empty = as it is. Another one goes through the whole model in memory. "llama" from
                              // llama_moe is its dense parent (slice_network.h), a model that computes something else
  std::string layout;         // of the tensors: published or stacked; empty = as it is, of another family published
  std::string dtype = "auto"; // of stored floats: auto (as they are; quantised ones become float32) | float32 | bfloat16 | float16
  int64_t max_shard_bytes = 5'000'000'000;
  std::optional<io::GgmlType> quantize;  // of matrices in a GGUF file, instead of dtype
};

struct PlannedTensor {
  std::string name, type;
  std::vector<int64_t> shape;
  int64_t bytes = 0;
};

struct Conversion {
  std::vector<PlannedTensor> tensors;
  std::vector<std::string> files;  // beside those of the tensors: config.json, tokenizer.json, ...
  std::vector<std::string> notes;  // what is not as one might expect
  int64_t bytes = 0;               // of all tensors
  // Writes everything in one step (a kill leaves nothing behind); `progress(done, total)` in bytes of tensors, may be empty.
  std::function<void(const std::function<void(int64_t done, int64_t total)>& progress)> write;
};

// Reads headers and checks that everything fits: Error{checkpoint} lists missing tensors and ones that do not belong,
// Error{unsupported} says why a family or a format cannot state the model, Error{usage} when `out` exists. `out` is a GGUF file
// when its name ends in .gguf. Another family or another layout goes through memory, folder to folder only.
[[nodiscard]] Conversion plan_conversion(const std::filesystem::path& in, const std::filesystem::path& out, const ConvertOptions& options);

}  // namespace switchyard
