#include "models/convert.h"

#include "base/atomic_dir.h"
#include "base/config_tree.h"
#include "base/files.h"
#include "base/llama3_rope.h"
#include "io/gguf/gguf_config.h"
#include "io/gguf/gguf_model.h"
#include "io/safetensors_writer.h"
#include "io/stored_model.h"
#include "models/canonical_spec.h"
#include "models/slice_network.h"
#include "models/stored_tensors.h"
#include "switchyard/checkpoint.h"
#include "switchyard/error.h"

#include <algorithm>

namespace switchyard {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;
using Progress = std::function<void(int64_t, int64_t)>;
using StoredPtr = std::shared_ptr<const io::StoredModel>;

std::optional<DType> wanted_dtype(const std::string& name) {
  if (name == "auto") return std::nullopt;
  if (name == "float32" || name == "f32") return DType::f32;
  if (name == "bfloat16" || name == "bf16") return DType::bf16;
  if (name == "float16" || name == "f16") return DType::f16;
  fail(ErrorKind::usage, "weights cannot be stored as '{}'; expected auto, float32, bfloat16 or float16", name);
}

const io::BlockFormat& float_format(DType dtype) {
  return io::format_of(dtype == DType::bf16 ? io::GgmlType::bf16 : dtype == DType::f16 ? io::GgmlType::f16 : io::GgmlType::f32);
}

void refuse_existing(const fs::path& out) {
  std::error_code ignored;
  if (fs::exists(out, ignored) && !(fs::is_directory(out, ignored) && fs::is_empty(out, ignored)))
    fail(ErrorKind::usage, "{} exists; convert writes to a new place", out.string());
}

struct Checked {
  ModelSpec spec;
  size_t layout;  // among those of the family
};

Checked checked(const io::StoredModel& stored, const FamilyEntry& family) {
  const ModelSpec spec = family.family->read_config(stored.config).resolved();
  return {spec, check_tensors(LanguageModel(spec, std::nullopt), *family.family, *stored.tensors)};  // weights that nobody writes take no memory
}

// ---- to a folder ----

bool is_float(const TensorEntry& entry) {
  return entry.decode || entry.dtype == DType::f32 || entry.dtype == DType::f16 || entry.dtype == DType::bf16 || entry.dtype == DType::f64;
}

DType dtype_of(const TensorEntry& entry, std::optional<DType> wanted) {
  if (!is_float(entry)) return entry.dtype;
  if (wanted) return *wanted;
  if (!entry.decode) return entry.dtype;
  return entry.stored_as == "F16" ? DType::f16 : entry.stored_as == "BF16" ? DType::bf16 : DType::f32;
}

void write_tensor(const TensorEntry& entry, DType dtype, Sink& sink) {
  if (!entry.decode && entry.dtype == dtype) return sink.write(entry.bytes);
  std::vector<float> values(static_cast<size_t>(entry.numel()));
  to_float32(entry, values.data());
  const io::BlockFormat& format = float_format(dtype);
  std::vector<std::byte> bytes(values.size() * static_cast<size_t>(format.bytes));
  io::encode_blocks(format, values, bytes.data(), "tensor '" + entry.name + "'");
  sink.write(bytes);
}

// Of most of the floats: what config.json says of all.
DType common_dtype(const io::StoredModel& stored) {
  std::map<DType, int64_t> bytes;
  for (const TensorEntry* entry : stored.tensors->entries())
    if (is_float(*entry)) bytes[dtype_of(*entry, std::nullopt)] += entry->numel() * item_size(dtype_of(*entry, std::nullopt));
  const auto most = std::max_element(bytes.begin(), bytes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == bytes.end() || most->first == DType::f64 ? DType::f32 : most->first;
}

// Files beside weights and config that belong to the model: tokenizer, templates, generation defaults.
std::vector<fs::path> side_files(const io::StoredModel& stored) {
  std::vector<fs::path> out;
  if (stored.single_file) return out;
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json", "chat_template.jinja"})
    if (std::error_code ignored; fs::is_regular_file(stored.path / name, ignored)) out.push_back(stored.path / name);
  return out;
}

void write_folder(const io::StoredModel& stored, const fs::path& out, const std::vector<TensorSource>& tensors, DType dtype, int64_t max_shard_bytes) {
  AtomicDir dir(out, "config.json");
  ordered_json config = to_json(stored.config);
  config["dtype"] = config["torch_dtype"] = long_name(dtype);
  write_file_atomic(dir.path() / "config.json", config.dump(2) + "\n");
  (void)write_sharded(dir.path(), tensors, max_shard_bytes);
  for (const fs::path& file : side_files(stored)) write_file_atomic(dir.path() / file.filename(), read_text_file(file));
  if (stored.single_file) {
    if (stored.tokenizer) write_file_atomic(dir.path() / "tokenizer.json", *stored.tokenizer + "\n");
    const auto text = stored.own_tokenizer_config.dump(2, ' ', false, ordered_json::error_handler_t::replace);  // strings of a stranger
    if (!stored.own_tokenizer_config.empty()) write_file_atomic(dir.path() / "tokenizer_config.json", text + "\n");
  }
  dir.commit();
}

Conversion to_folder(StoredPtr stored, const fs::path& out, const ConvertOptions& options) {
  const auto wanted = wanted_dtype(options.dtype);
  Conversion plan;
  for (const TensorEntry* entry : stored->tensors->entries()) {
    const DType dtype = dtype_of(*entry, wanted);
    const int64_t size = entry->numel() * item_size(dtype);
    plan.tensors.push_back({entry->name, std::string(name_of(dtype)), entry->shape, size});
    plan.bytes += size;
  }
  plan.files = {"config.json"};
  for (const fs::path& file : side_files(*stored)) plan.files.push_back(file.filename().string());
  if (stored->single_file && stored->tokenizer) plan.files.push_back("tokenizer.json");
  const DType stated = wanted.value_or(common_dtype(*stored));
  plan.write = [stored, out, wanted, stated, total = plan.bytes, shard = options.max_shard_bytes](const Progress& progress) {
    auto done = std::make_shared<int64_t>(0);
    std::vector<TensorSource> tensors;
    for (const TensorEntry* entry : stored->tensors->entries()) {
      const DType dtype = dtype_of(*entry, wanted);
      tensors.push_back({entry->name, dtype, entry->shape, [=](Sink& sink) {
                           write_tensor(*entry, dtype, sink);
                           *done += entry->numel() * item_size(dtype);
                           if (progress) progress(*done, total);
                         }});
    }
    write_folder(*stored, out, tensors, stated, shard);
  };
  return plan;
}

// ---- to a GGUF file ----

// GGUF holds constants as float32.
void round_numbers(ordered_json& node) {
  if (node.is_number_float()) node = static_cast<double>(static_cast<float>(node.get<double>()));
  else if (node.is_structured())
    for (auto& item : node) round_numbers(item);
}

// Positions of llama3 stand in GGUF as the divisors that they mean.
void say_divisors(ModelSpec& spec) {
  const RopeSpec r = spec.rope;
  if (r.scaling != "llama3") return;
  const int64_t dims = r.dims > 0 ? r.dims : spec.head_dim, original = r.original_positions > 0 ? r.original_positions : spec.max_positions;
  const auto divisors = llama3_divisors({r.factor, r.low_freq_factor, r.high_freq_factor, static_cast<double>(original)}, spec.rope_theta, dims);
  spec.rope = {.scaling = "longrope", .dims = r.dims, .adjacent_pairs = r.adjacent_pairs, .original_positions = spec.max_positions, .attention_factor = 1,
               .short_factor = divisors, .long_factor = divisors};
}

// What training alone needs is not in GGUF and is left out of the comparison.
ordered_json inference_part(ModelSpec spec) {
  spec.init_std = 0.02;
  say_divisors(spec);
  if (spec.moe) spec.moe->losses.clear();
  ordered_json out = to_json(canonical(spec));
  round_numbers(out);
  return out;
}

// What a plan will write, as the readers of metadata ask for it.
io::TensorFacts facts_of(const io::GgufPlan& plan, const io::GgufFamily& family, const ordered_json& config) {
  const auto has = [&plan](std::string_view name) {
    const auto is_it = [&](const io::GgufTensorSource& tensor) { return tensor.name == name; };
    return std::any_of(plan.tensors.begin(), plan.tensors.end(), is_it);
  };
  const auto values = [&](std::string_view name) {
    return family.config_tensor ? family.config_tensor(config, name) : std::vector<float>();
  };
  return {has, values};
}

// The metadata, read again, must mean the same model.
void check_metadata(const io::GgufPlan& plan, const ordered_json& written, const FamilyEntry& family, const ModelSpec& spec) {
  const io::GgufFamily& found = io::family_of(plan.metadata, "GGUF");
  if (found.model_type != family.name)
    fail(ErrorKind::unsupported, "the metadata of GGUF would say '{}': they cannot say this model of '{}'", found.model_type,
         family.name);
  ordered_json config = io::config_of(plan.metadata, found, facts_of(plan, found, written), "GGUF");
  config["vocab_size"] = spec.vocab_size;
  config["tie_word_embeddings"] = spec.tie_embeddings;
  const ModelSpec back = family.family->read_config(config_from_json(config, "GGUF")).resolved();
  const auto difference = first_difference(inference_part(spec), inference_part(back));
  if (!difference.empty()) fail(ErrorKind::unsupported, "the model has {}: the metadata of GGUF cannot say that", difference);
}

// A constant that config.json leaves out has the default of its family, which readers of GGUF do not know.
ordered_json with_constants(ordered_json config, const ordered_json& full) {
  const auto rope = config.value("rope_parameters", ordered_json::object());
  for (const char* key : {"rms_norm_eps", "rope_theta"})
    if (!config.contains(key) && !rope.contains(key) && full.contains(key)) config[key] = full[key];
  return config;
}

std::optional<io::GgmlType> gguf_type(const ConvertOptions& options) {
  if (options.quantize) return options.quantize;
  const auto dtype = wanted_dtype(options.dtype);
  return dtype ? std::optional(float_format(*dtype).type) : std::nullopt;
}

Conversion to_gguf(StoredPtr stored, const fs::path& out, const ConvertOptions& options, const FamilyEntry& family, const ModelSpec& spec) {
  std::optional<ordered_json> tokenizer;
  if (stored->tokenizer) tokenizer = ordered_json::parse(*stored->tokenizer, nullptr, false);
  if (tokenizer && !tokenizer->is_object()) fail(ErrorKind::checkpoint, "{}: not a JSON object", stored->tokenizer_name);
  const ordered_json config = with_constants(to_json(stored->config), family.family->write_config(spec));
  const ordered_json tokenizer_config = io::read_tokenizer_config(*stored);
  auto plan = std::make_shared<io::GgufPlan>(
      io::plan_gguf(config, *stored->tensors, tokenizer ? &*tokenizer : nullptr, tokenizer_config, {gguf_type(options)}));
  check_metadata(*plan, config, family, spec);
  Conversion out_plan;
  out_plan.notes = plan->notes;
  for (const io::GgufTensorSource& tensor : plan->tensors) {
    out_plan.tensors.push_back({tensor.name, std::string(io::format_of(tensor.type).name), tensor.shape, tensor.byte_size()});
    out_plan.bytes += tensor.byte_size();
  }
  out_plan.write = [stored, plan, out, total = out_plan.bytes](const Progress& progress) {
    io::write_gguf(out, plan->metadata, plan->tensors, [&](int64_t done) {
      if (progress) progress(done, total);
    });
  };
  return out_plan;
}

// ---- to another family ----

// Experts that were cut from dense networks go back into them, where the wanted family knows no experts (LLaMA-MoE, arXiv:2406.16554).
bool joins_slices(const std::string& from, const std::string& to) { return from == "llama_moe" && to == "llama"; }

Checkpoint with_joined_slices(Checkpoint checkpoint) {
  checkpoint.model = join_networks(*checkpoint.model);
  return checkpoint;
}

Conversion through_memory(const fs::path& in, const fs::path& out, const ConvertOptions& options, const io::StoredModel& stored, const FamilyEntry& from,
                          const ModelSpec& stored_spec) {
  const FamilyEntry& family = options.family.empty() ? from : find_family(options.family);
  const bool joined = joins_slices(from.name, family.name);
  const ModelSpec spec = joined ? joined_spec(stored_spec) : stored_spec;
  if (const auto reason = cannot_state(family, spec, /*training_rules=*/false)) fail(ErrorKind::unsupported, "cannot convert to '{}': {}", family.name, *reason);
  SaveOptions save{.family = family.name, .max_shard_bytes = options.max_shard_bytes};
  if (!options.layout.empty()) save.layout = options.layout;
  const DType dtype = wanted_dtype(options.dtype).value_or(common_dtype(stored));
  save.dtype = long_name(dtype);
  const LanguageModel shell(spec, std::nullopt);
  Conversion plan;
  for (const TensorSource& tensor : stored_weights(shell, *family.family, dtype, find_layout(family, save.layout))) {
    plan.tensors.push_back({tensor.name, std::string(name_of(tensor.dtype)), tensor.shape, tensor.byte_size()});
    plan.bytes += tensor.byte_size();
  }
  plan.files = {"config.json"};
  if (stored.tokenizer) plan.files.push_back("tokenizer.json");
  for (const fs::path& file : side_files(stored)) {
    if (file.filename() == "tokenizer.json") continue;
    plan.files.push_back(file.filename().string());
    save.side_files.push_back(file);
  }
  plan.notes.push_back("another family or layout: the whole model passes through memory");
  if (joined)
    plan.notes.push_back("the experts of each layer become one dense network again, every neuron with weight 1; the model of experts "
                         "computes something else, and its gates are left out");
  plan.write = [in, out, save, joined](const Progress&) {
    Checkpoint checkpoint = load_checkpoint(in);
    save_checkpoint(joined ? with_joined_slices(std::move(checkpoint)) : checkpoint, out, save);
  };
  return plan;
}

}  // namespace

Conversion plan_conversion(const fs::path& in, const fs::path& out, const ConvertOptions& options) {
  refuse_existing(out);
  (void)wanted_dtype(options.dtype);
  const auto stored = std::make_shared<io::StoredModel>(io::open_stored_model(in));
  const FamilyEntry& family = family_of(stored->config, stored->config_name);
  const auto [spec, layout] = checked(*stored, family);
  const bool to_file = out.extension() == ".gguf";
  if (!to_file && options.quantize) fail(ErrorKind::usage, "--quantize writes blocks of GGUF; {} is a folder", out.string());
  if (to_file && !options.layout.empty()) fail(ErrorKind::usage, "--layout is of folders; a GGUF file has one layout");
  const bool another = !options.family.empty() && options.family != family.name;
  if (another && to_file)
    fail(ErrorKind::unsupported, "a GGUF file has the family of the model ('{}'); convert to a folder of '{}' first", family.name, options.family);
  if (another || !options.layout.empty()) return through_memory(in, out, options, *stored, family, spec);
  if (to_file && layout > 0) {
    (void)io::gguf_family_of(family.name);
    fail(ErrorKind::unsupported, "{}: GGUF is made from the published layout, which these tensors do not have; first: switchyard convert {} FOLDER --layout published",
         in.string(), in.string());
  }
  return to_file ? to_gguf(stored, out, options, family, spec) : to_folder(stored, out, options);
}

}  // namespace switchyard
