#include "io/stored_model.h"

#include "base/config_tree.h"
#include "base/files.h"
#include "io/gguf/gguf_model.h"
#include "io/llama2c.h"
#include "io/quant/quantised_folder.h"
#include "io/safetensors_set.h"
#include "io/strict_json.h"
#include "switchyard/error.h"

#include <algorithm>

namespace switchyard::io {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

StoredModel open_gguf(const fs::path& path) {
  GgufModel model = open_gguf_model(path);
  StoredModel out;
  out.path = path;
  out.config_name = path.string();
  out.config = config_from_json(model.config, path.string());
  out.tensors = std::move(model.tensors);
  if (model.tokenizer) out.tokenizer = model.tokenizer->dump(-1, ' ', false, ordered_json::error_handler_t::replace);
  out.tokenizer_name = path.string() + ": tokenizer";
  out.single_file = true;
  out.own_tokenizer_config = std::move(model.tokenizer_config);
  return out;
}

std::optional<std::string> text_if_there(const fs::path& file) {
  std::error_code ignored;
  return fs::exists(file, ignored) ? std::optional(read_text_file(file)) : std::nullopt;
}

StoredModel folder_config(const fs::path& folder) {
  StoredModel out;
  out.path = folder;
  const auto config = folder / "config.json";
  const auto text = text_if_there(config);
  if (!text) fail(ErrorKind::io, "{}: no such file; expected the folder of a model with config.json and model.safetensors", config.string());
  out.config_name = config.string();
  out.config = parse_json(*text, config.string());
  out.tokenizer = text_if_there(folder / "tokenizer.json");
  out.tokenizer_name = (folder / "tokenizer.json").string();
  return out;
}

int64_t block_size(const ordered_json& quantization, size_t axis) {
  const auto sizes = quantization.find("weight_block_size");
  if (sizes == quantization.end() || sizes->is_null()) return 128;
  if (!sizes->is_array() || sizes->size() != 2 || !(*sizes)[axis].is_number_integer())
    fail(ErrorKind::config, "config.json: quantization_config.weight_block_size = {}, expected two sizes", sizes->dump());
  return (*sizes)[axis].get<int64_t>();
}

// The two methods whose tensors are decoded here; any other stays in the config, and families refuse it.
bool takes_quantization(ConfigNode& config, ordered_json& quantization) {
  const ConfigNode* node = config.find("quantization_config");
  if (!node || !node->is_table()) return false;
  quantization = to_json(*node);
  const auto method = quantization.value("quant_method", ordered_json());
  if (method != "fp8" && method != "mxfp4") return false;
  std::erase_if(*config.table(), [](const auto& item) { return item.first == "quantization_config"; });
  return true;
}

}  // namespace

bool is_single_file_model(const fs::path& path) { return is_gguf(path) || is_llama2c(path); }

StoredModel open_stored_config(const fs::path& path) {
  if (is_gguf(path)) return open_gguf(path);
  if (is_llama2c(path)) return open_llama2c(path);
  StoredModel out = folder_config(path);
  ordered_json ignored;
  takes_quantization(out.config, ignored);
  return out;
}

StoredModel open_stored_model(const fs::path& path) {
  if (is_gguf(path)) return open_gguf(path);
  if (is_llama2c(path)) return open_llama2c(path);
  StoredModel out = folder_config(path);
  out.tensors = std::make_shared<SafetensorsSet>(SafetensorsSet::open(path));
  ordered_json quantization = ordered_json::object();
  if (takes_quantization(out.config, quantization) || has_quantised_tensors(*out.tensors))
    out.tensors = dequantised(out.tensors, block_size(quantization, 0), block_size(quantization, 1));
  return out;
}

ordered_json read_tokenizer_config(const StoredModel& model) {
  ordered_json out = model.own_tokenizer_config;
  if (model.single_file) return out;
  const fs::path file = model.path / "tokenizer_config.json";
  if (const auto text = text_if_there(file)) {
    (void)parse_strict_json(*text, file.string());
    out = ordered_json::parse(*text);
    if (!out.is_object()) fail(ErrorKind::checkpoint, "{}: not a JSON object", file.string());
  }
  if (const auto chat = text_if_there(model.path / "chat_template.jinja")) out["chat_template"] = *chat;
  return out;
}

}  // namespace switchyard::io
