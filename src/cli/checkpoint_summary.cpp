#include "cli/checkpoint_summary.h"

#include "base/files.h"
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

}  // namespace

CheckpointSummary summarise_checkpoint(const fs::path& path) {
  CheckpointSummary out;
  out.path = path;
  if (!fs::exists(path)) fail(ErrorKind::checkpoint, "{}: no such file or folder", path.string());
  const auto set = SafetensorsSet::open(path);
  for (const TensorEntry* entry : set.entries()) {
    const auto bytes = static_cast<int64_t>(entry->bytes.size());
    out.tensors.push_back({entry->name, std::string(name_of(entry->dtype)), set.file_of(entry->name).filename().string(), entry->shape, bytes});
    out.num_values += entry->numel();
    out.num_bytes += bytes;
    out.values_by_dtype[std::string(name_of(entry->dtype))] += entry->numel();
  }
  out.metadata = set.metadata();
  if (!fs::is_directory(path)) return out;
  if (fs::exists(path / "config.json")) read_config_scalars(path / "config.json", out);
  for (const auto& entry : fs::directory_iterator(path)) out.files.push_back(entry.path().filename().string());
  std::sort(out.files.begin(), out.files.end());
  return out;
}

}  // namespace switchyard::cli
