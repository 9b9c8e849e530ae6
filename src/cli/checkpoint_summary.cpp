#include "cli/checkpoint_summary.h"

#include "base/files.h"
#include "io/gguf/gguf.h"
#include "io/safetensors_set.h"
#include "switchyard/error.h"

#include <algorithm>

namespace switchyard::cli {
namespace fs = std::filesystem;
namespace {

void read_config_scalars(const fs::path& file, CheckpointSummary& out) {
  const auto config = nlohmann::ordered_json::parse(read_text_file(file), nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) fail(ErrorKind::checkpoint, "{}: not a JSON object", file.string());
  for (const auto& [key, value] : config.items())
    if (value.is_primitive() && !value.is_null()) out.config[key] = value;
  if (const auto type = config.find("model_type"); type != config.end() && type->is_string()) out.model_type = type->get<std::string>();
}

void add_tensor(CheckpointSummary& out, StoredTensor tensor, int64_t values) {
  out.num_values += values;
  out.num_bytes += tensor.bytes;
  out.values_by_dtype[tensor.dtype] += values;
  out.tensors.push_back(std::move(tensor));
}

// Long lists are vocabularies: their first items say what they are.
constexpr size_t kListed = 8;

CheckpointSummary summarise_gguf(const fs::path& path) {
  CheckpointSummary out;
  out.path = path;
  const auto file = io::GgufFile::open(path);
  out.gguf = nlohmann::ordered_json::object();
  for (const auto& [key, value] : file.metadata()) {
    out.gguf[key] = io::to_json(value, kListed);
    if (key == "general.architecture" && value.string()) out.model_type = *value.string();
  }
  for (const io::GgufTensor& tensor : file.header().tensors)
    add_tensor(out, {tensor.name, std::string(tensor.format->name), path.filename().string(), tensor.shape, static_cast<int64_t>(tensor.bytes.size())}, tensor.numel());
  return out;
}

}  // namespace

CheckpointSummary summarise_checkpoint(const fs::path& path) {
  CheckpointSummary out;
  out.path = path;
  if (!fs::exists(path)) fail(ErrorKind::checkpoint, "{}: no such file or folder", path.string());
  if (io::is_gguf(path)) return summarise_gguf(path);
  const auto set = SafetensorsSet::open(path);
  for (const TensorEntry* entry : set.entries())
    add_tensor(out, {entry->name, std::string(name_of(entry->dtype)), set.file_of(entry->name).filename().string(), entry->shape, static_cast<int64_t>(entry->bytes.size())},
               entry->numel());
  out.metadata = set.metadata();
  if (!fs::is_directory(path)) return out;
  if (fs::exists(path / "config.json")) read_config_scalars(path / "config.json", out);
  for (const auto& entry : fs::directory_iterator(path)) out.files.push_back(entry.path().filename().string());
  std::sort(out.files.begin(), out.files.end());
  return out;
}

}  // namespace switchyard::cli
