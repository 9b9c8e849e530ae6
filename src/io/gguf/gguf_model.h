// A GGUF file seen as a Hugging Face folder: a config.json object, tensors by their Hugging Face names and shapes, a
// tokenizer.json. And the other way: what to write for such a folder.
#pragma once

#include "io/gguf/gguf_write.h"
#include "io/tensor_store.h"

#include <optional>

namespace switchyard::io {

struct GgufModel {
  nlohmann::ordered_json config;
  std::unique_ptr<TensorStore> tensors;               // quantised ones are decoded when they are asked for
  std::optional<nlohmann::ordered_json> tokenizer;    // content of a tokenizer.json
  nlohmann::ordered_json tokenizer_config;            // chat_template and special tokens; an empty object when nothing is known
};

// Throws as parse_gguf and config_of do; Error{checkpoint} that lists tensors that do not belong to the architecture and layers
// that lack some, and shapes that do not fit what the metadata say.
[[nodiscard]] GgufModel open_gguf_model(const std::filesystem::path& path);

struct GgufPlanOptions {
  // Of matrices; vectors and routers stay float32, and rows that are no whole number of blocks become F16. Without it every
  // tensor keeps the float type that it is stored in (float32 when it is quantised in another way).
  std::optional<GgmlType> type;
};

struct GgufPlan {
  GgufMetadata metadata;
  std::vector<GgufTensorSource> tensors;
  std::vector<std::string> notes;  // what is not as asked for
};

// `tensors` must outlive the plan; writing decodes one tensor (or one expert) at a time. Throws Error{checkpoint} that lists what
// is missing and what does not belong.
[[nodiscard]] GgufPlan plan_gguf(const nlohmann::ordered_json& config, const TensorStore& tensors, const nlohmann::ordered_json* tokenizer,
                                 const nlohmann::ordered_json& tokenizer_config, const GgufPlanOptions& options);

}  // namespace switchyard::io
