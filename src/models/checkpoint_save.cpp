#include "base/atomic_dir.h"
#include "base/files.h"
#include "io/tokenizer/tokenizer.h"
#include "models/stored_tensors.h"
#include "switchyard/checkpoint.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;

const FamilyEntry& own_family() { return find_family("switchyard"); }

// The family that the model came from, if it still is one of them; else the first that can state it.
const FamilyEntry& choose_family(const Checkpoint& checkpoint, const std::string& wanted) {
  const ModelSpec& spec = checkpoint.model->spec();
  if (wanted == "auto") {
    if (!checkpoint.family.empty() && !cannot_state(find_family(checkpoint.family), spec)) return find_family(checkpoint.family);
    for (const int order : {0, 1})
      for (const auto& entry : families())
        if (entry.order == order && &entry != &own_family() && !cannot_state(entry, spec)) return entry;
    return own_family();
  }
  const FamilyEntry& entry = find_family(wanted);
  if (const auto reason = cannot_state(entry, spec, /*training_rules=*/false))  // who asks for a family wants its folder
    fail(ErrorKind::unsupported, "cannot save as '{}': {}; save as 'switchyard', which states every model", wanted, *reason);
  return entry;
}

DType stored_dtype(const std::string& name) {
  if (name == "float32" || name == "f32") return DType::f32;
  if (name == "bfloat16" || name == "bf16") return DType::bf16;
  if (name == "float16" || name == "f16") return DType::f16;
  fail(ErrorKind::usage, "weights cannot be stored as '{}'; expected float32, bfloat16 or float16", name);
}

// Keys of the file that the model came from and that its family does not write (bookkeeping, defaults of generation) stay.
void keep_other_keys(nlohmann::ordered_json& config, const Checkpoint& checkpoint, const FamilyEntry& family) {
  if (checkpoint.family != family.name || !checkpoint.config.is_object()) return;
  for (const auto& [key, value] : checkpoint.config.items())
    if (!config.contains(key) && key != "rope_scaling" && key != "quantization_config") config[key] = value;
}

nlohmann::ordered_json config_of(const Checkpoint& checkpoint, const FamilyEntry& family, DType dtype) {
  auto config = family.family->write_config(checkpoint.model->spec());
  const auto id = [&](std::optional<int32_t> value) { return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json(nullptr); };
  const Tokenizer* tokenizer = checkpoint.tokenizer.get();
  const bool same = checkpoint.family == family.name && checkpoint.config.is_object();
  const auto token = [&](const char* key, std::optional<int32_t> own) {
    config[key] = tokenizer ? id(own) : same && checkpoint.config.contains(key) ? checkpoint.config[key] : nlohmann::ordered_json(nullptr);
  };
  token("bos_token_id", tokenizer ? tokenizer->bos_id() : std::nullopt);
  token("eos_token_id", tokenizer ? tokenizer->eos_id() : std::nullopt);
  config["dtype"] = config["torch_dtype"] = long_name(dtype);  // the key from transformers 5 on, and the one before
  keep_other_keys(config, checkpoint, family);
  return config;
}

void write_training_state(const Checkpoint& checkpoint, const fs::path& folder) {
  if (checkpoint.training_state.is_null() && checkpoint.training_tensors.empty()) return;
  std::vector<TensorSource> tensors;
  for (const auto& [name, tensor] : checkpoint.training_tensors) tensors.push_back(as_stored(name, tensor));
  write_safetensors(folder / "training_state.safetensors", tensors);
  write_file_atomic(folder / "training_state.json", checkpoint.training_state.dump(2) + "\n");
}

}  // namespace

void save_checkpoint(const Checkpoint& checkpoint, const fs::path& folder, const SaveOptions& options) {
  const DType dtype = stored_dtype(options.dtype);
  const FamilyEntry& family = choose_family(checkpoint, options.family);
  const size_t layout = find_layout(family, options.layout);
  AtomicDir dir(folder, "config.json");
  write_file_atomic(dir.path() / "config.json", config_of(checkpoint, family, dtype).dump(2) + "\n");
  (void)write_sharded(dir.path(), stored_weights(*checkpoint.model, *family.family, dtype, layout), options.max_shard_bytes);
  if (checkpoint.tokenizer) write_file_atomic(dir.path() / "tokenizer.json", checkpoint.tokenizer->to_json().dump() + "\n");
  for (const fs::path& file : options.side_files) write_file_atomic(dir.path() / file.filename(), read_text_file(file));
  write_training_state(checkpoint, dir.path());
  dir.commit();
}

}  // namespace switchyard
