#include "base/atomic_dir.h"
#include "base/config_tree.h"
#include "base/files.h"
#include "core/packed_parameter.h"
#include "io/stored_model.h"
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

Opened read_config(const io::StoredModel& stored) {
  try {
    const FamilyEntry& family = family_of(stored.config, stored.config_name);
    return {family, family.family->read_config(stored.config).resolved(), to_json(stored.config)};
  } catch (const Error& error) {
    if (std::string_view(error.what()).starts_with(stored.config_name)) throw;
    throw Error(error.kind(), stored.config_name + ": " + error.what());
  }
}

// Before memory is asked for: sizes in a damaged config.json can be anything.
void check_scale(const fs::path& folder, const ModelSpec& spec, const TensorStore& files) {
  int64_t stored = 0;
  for (const TensorEntry* entry : files.entries()) stored += entry->numel();
  const int64_t wanted = count_parameters(spec).total;
  if (wanted / 4 > stored + 1'000'000)
    fail(ErrorKind::checkpoint, "{}: config.json describes {} parameters, but the tensors hold {} values", folder.string(), wanted, stored);
}

std::shared_ptr<const Tokenizer> open_tokenizer(const io::StoredModel& stored, const ModelSpec& spec) {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::string name = stored.tokenizer_name;
  if (stored.tokenizer) tokenizer = parse_tokenizer(*stored.tokenizer, name);
  else if (const auto file = io::is_single_file_model(stored.path) ? std::nullopt : find_tokenizer_file(stored.path)) tokenizer = load_tokenizer(*file), name = file->string();
  if (tokenizer && tokenizer->vocab_size() > spec.vocab_size)
    fail(ErrorKind::checkpoint, "{}: the tokenizer has {} tokens, but vocab_size = {} in config.json", name, tokenizer->vocab_size(), spec.vocab_size);
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

// bfloat16 holds what it loses of float16 in three bits of the fraction; of block formats it is the next larger one.
std::string automatic_format(const TensorStore& files) {
  int64_t wide = 0, all = 0;
  for (const TensorEntry* entry : files.entries()) {
    all += entry->numel();
    if (!entry->decode && (entry->dtype == DType::f32 || entry->dtype == DType::f64)) wide += entry->numel();
  }
  return wide * 2 > all ? "float32" : "bfloat16";
}

void read_packed(LanguageModel& model, const Family& family, const TensorStore& files, const std::string& weights) {
  const std::string name = weights == "auto" ? automatic_format(files) : weights;
  const WeightFormat format = kernels::packed::parse_weight_format(name);
  std::map<const void*, Packable> waiting;
  for (const Packable& part : model.packable()) waiting.emplace(part.parameter.unsafeGetTensorImpl(), part);
  read_weights(model, family, files, [&](const torch::Tensor& parameter) {
    const auto found = waiting.find(parameter.unsafeGetTensorImpl());
    if (found == waiting.end()) return;
    pack_parameter(found->second, format);
    waiting.erase(found);
  });
  model.pack_weights(name);  // an output layer that is the embedding
}

}  // namespace

ModelSpec load_spec(const fs::path& folder) {
  if (!io::is_single_file_model(folder)) recover_dir(folder);
  return read_config(io::open_stored_config(folder)).spec;
}

Checkpoint load_checkpoint(const fs::path& folder, bool with_training_state, const std::string& weights) {
  if (!io::is_single_file_model(folder)) recover_dir(folder);
  const auto [family, spec, config] = read_config(io::open_stored_config(folder));  // first: its faults say more than those of tensors
  const io::StoredModel stored = io::open_stored_model(folder);
  check_scale(folder, spec, *stored.tensors);
  Checkpoint out;
  out.family = family.name;
  out.config = config;
  out.tokenizer = open_tokenizer(stored, spec);
  out.model = std::make_shared<LanguageModel>(spec, std::nullopt);
  if (weights == "plain")
    read_weights(*out.model, *family.family, *stored.tensors);
  else
    read_packed(*out.model, *family.family, *stored.tensors, weights);
  if (with_training_state) open_training_state(folder, out);
  return out;
}

}  // namespace switchyard
