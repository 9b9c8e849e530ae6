#include "base/atomic_dir.h"
#include "base/config_tree.h"
#include "base/files.h"
#include "io/tokenizer/tokenizer.h"
#include "models/stored_tensors.h"
#include "switchyard/checkpoint.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

namespace fs = std::filesystem;

struct Opened {
  const FamilyEntry& family;
  ModelSpec spec;
  nlohmann::ordered_json config;
};

Opened open_config(const fs::path& folder) {
  const auto path = folder / "config.json";
  std::error_code ignored;
  if (!fs::exists(path, ignored)) fail(ErrorKind::io, "{}: no such file; expected the folder of a model with config.json and model.safetensors", path.string());
  const ConfigNode config = parse_json(read_text_file(path), path.string());
  const ConfigNode* type = config.find("model_type");
  if (!type || !type->string()) fail(ErrorKind::config, "{}: 'model_type' is missing or no string", path.string());
  try {
    const FamilyEntry& family = find_family(*type->string());
    return {family, family.family->read_config(config).resolved(), to_json(config)};
  } catch (const Error& error) {
    if (std::string_view(error.what()).starts_with(path.string())) throw;
    throw Error(error.kind(), path.string() + ": " + error.what());
  }
}

// Before memory is asked for: sizes in a damaged config.json can be anything.
void check_scale(const fs::path& folder, const ModelSpec& spec, const SafetensorsSet& files) {
  int64_t stored = 0;
  for (const TensorEntry* entry : files.entries()) stored += entry->numel();
  const int64_t wanted = count_parameters(spec).total;
  if (wanted / 4 > stored + 1'000'000)
    fail(ErrorKind::checkpoint, "{}: config.json describes {} parameters, but the tensors hold {} values", folder.string(), wanted, stored);
}

std::shared_ptr<const Tokenizer> open_tokenizer(const fs::path& folder, const ModelSpec& spec) {
  const auto path = find_tokenizer_file(folder);
  if (!path) return nullptr;
  std::shared_ptr<const Tokenizer> tokenizer = load_tokenizer(*path);
  if (tokenizer->vocab_size() > spec.vocab_size)
    fail(ErrorKind::checkpoint, "{}: the tokenizer has {} tokens, but vocab_size = {} in config.json", path->string(), tokenizer->vocab_size(), spec.vocab_size);
  return tokenizer;
}

void open_training_state(const fs::path& folder, Checkpoint& checkpoint) {
  const auto text = folder / "training_state.json", tensors = folder / "training_state.safetensors";
  if (!fs::exists(text)) fail(ErrorKind::checkpoint, "{}: no training_state.json: the folder holds a model, not a run that can go on", folder.string());
  try {
    checkpoint.training_state = nlohmann::ordered_json::parse(read_text_file(text));
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorKind::checkpoint, "{}: not valid JSON: {}", text.string(), error.what());
  }
  const auto file = SafetensorsFile::open(tensors);
  for (const auto& entry : file.entries()) checkpoint.training_tensors.emplace(entry.name, as_tensor(entry));
}

}  // namespace

ModelSpec load_spec(const fs::path& folder) {
  recover_dir(folder);
  return open_config(folder).spec;
}

Checkpoint load_checkpoint(const fs::path& folder, bool with_training_state) {
  recover_dir(folder);
  const auto [family, spec, config] = open_config(folder);
  const auto files = SafetensorsSet::open(folder);
  check_scale(folder, spec, files);
  Checkpoint out;
  out.family = family.name;
  out.config = config;
  out.tokenizer = open_tokenizer(folder, spec);
  out.model = std::make_shared<LanguageModel>(spec, std::nullopt);
  read_weights(*out.model, *family.family, files);
  if (with_training_state) open_training_state(folder, out);
  return out;
}

}  // namespace switchyard
