#include "io/gguf/gguf_config.h"

#include "switchyard/error.h"

#include <algorithm>

namespace switchyard::io {
namespace {

using nlohmann::ordered_json;

std::string full_key(const GgufFamily& family, std::string_view key) { return fmt::format("{}.{}", family.architecture, key); }

// "a.b" -> "/a/b".
ordered_json::json_pointer pointer_to(std::string_view dotted) {
  std::string path = "/" + std::string(dotted);
  std::replace(path.begin(), path.end(), '.', '/');
  return ordered_json::json_pointer(path);
}

const ordered_json* find_in(const ordered_json& config, std::string_view dotted) {
  const auto pointer = pointer_to(dotted);
  if (!config.contains(pointer)) return nullptr;
  const ordered_json& value = config.at(pointer);
  return value.is_null() ? nullptr : &value;
}

bool has_type(const ordered_json& value, KeyType type) {
  if (type == KeyType::flag) return value.is_boolean();
  return type == KeyType::number ? value.is_number() : value.is_number_integer() && value >= 0;
}

std::string_view describe(KeyType type) { return type == KeyType::flag ? "true or false" : type == KeyType::number ? "a number" : "one size"; }

// Keys that mean the same in every architecture and are looked at on their own.
bool is_scaling(std::string_view key) { return key.starts_with("rope.scaling."); }

void refuse_unknown_keys(const GgufMetadata& metadata, const GgufFamily& family, const std::string& file) {
  const std::string prefix = full_key(family, "");
  for (const auto& [key, value] : metadata) {
    if (!key.starts_with(prefix)) continue;
    const std::string_view rest = std::string_view(key).substr(prefix.size());
    const bool in_table = std::any_of(family.keys.begin(), family.keys.end(), [&](const KeyRow& row) { return row.gguf == rest; });
    const bool known = std::find(family.known.begin(), family.known.end(), rest) != family.known.end() || is_scaling(rest);
    const bool says_none = rest.starts_with("expert_") && to_json(value, 4) == 0;  // a dense file may say that it has no experts
    if (!in_table && !known && !says_none)
      fail(ErrorKind::unsupported, "{}: metadata '{}' (= {}) is not known and may change what the model computes", file, key, to_json(value, 4).dump());
  }
}

// Any other type than "none" is put where a family looks for it, and the family refuses what it does not know.
void read_rope_scaling(const GgufMetadata& metadata, const GgufFamily& family, ordered_json& config) {
  const std::string prefix = full_key(family, "rope.scaling.");
  const GgufValue* type = find(metadata, prefix + "type");
  if (!type || !type->string() || *type->string() == "none") return;
  ordered_json scaling = ordered_json::object();
  for (const auto& [key, value] : metadata)
    if (key.starts_with(prefix)) scaling[key == prefix + "type" ? "rope_type" : key.substr(prefix.size())] = to_json(value, 4);
  config["rope_scaling"] = scaling;
}

// Rotary positions on a part of each head, or values of another width than keys, are other models.
void check_head_sizes(const GgufMetadata& metadata, const GgufFamily& family, const std::string& file) {
  const auto is_read = [&](std::string_view key) {
    return std::any_of(family.keys.begin(), family.keys.end(), [&](const KeyRow& row) { return row.gguf == key && row.gguf != "attention.key_length"; });
  };
  const int64_t heads = gguf_size(metadata, family, "attention.head_count", file);
  const int64_t usual = gguf_size(metadata, family, "embedding_length", file) / std::max<int64_t>(heads, 1);
  const int64_t width = gguf_size(metadata, family, "attention.key_length", file, usual);
  for (const char* key : {"attention.value_length", "rope.dimension_count"}) {
    const int64_t size = gguf_size(metadata, family, key, file, width);
    if (!is_read(key) && size != width) fail(ErrorKind::unsupported, "{}: {} = {}, but a head has {} values", file, full_key(family, key), size, width);
  }
}

}  // namespace

const GgufFamily& family_of(const GgufMetadata& metadata, const std::string& file) {
  const GgufValue* architecture = find(metadata, "general.architecture");
  if (!architecture || !architecture->string()) fail(ErrorKind::checkpoint, "{}: metadata 'general.architecture' is missing or no string", file);
  const GgufValue* experts = find(metadata, *architecture->string() + ".expert_count");
  try {
    return gguf_family_of(*architecture->string(), experts && to_json(*experts, 4) != 0);
  } catch (const Error& error) {
    throw Error(error.kind(), file + ": " + error.what());
  }
}

int64_t gguf_size(const GgufMetadata& metadata, const GgufFamily& family, std::string_view key, const std::string& file, std::optional<int64_t> absent) {
  const GgufValue* value = find(metadata, full_key(family, key));
  if (!value && absent) return *absent;
  if (!value) fail(ErrorKind::checkpoint, "{}: metadata '{}' is missing", file, full_key(family, key));
  const ordered_json number = to_json(*value, 4);
  if (!has_type(number, KeyType::size)) fail(ErrorKind::unsupported, "{}: metadata '{}' is {}, expected one size", file, full_key(family, key), number.dump());
  return number.get<int64_t>();
}

ordered_json config_of(const GgufMetadata& metadata, const GgufFamily& family, const std::string& file) {
  refuse_unknown_keys(metadata, family, file);
  check_head_sizes(metadata, family, file);
  ordered_json config = {{"architectures", {family.hf_class}}, {"model_type", family.model_type}};
  for (const KeyRow& row : family.keys) {
    const std::string key = full_key(family, row.gguf);
    const GgufValue* value = find(metadata, key);
    if (!value && row.optional) continue;
    if (!value) fail(ErrorKind::checkpoint, "{}: metadata '{}' is missing", file, key);
    const ordered_json plain = to_json(*value, 4);
    if (!has_type(plain, row.type)) fail(ErrorKind::unsupported, "{}: metadata '{}' is {}, expected {}", file, key, plain.dump(), describe(row.type));
    config[pointer_to(row.hf)] = plain;
  }
  // Defaults of GGUF that are not those of every config.json.
  const auto default_to = [&](std::string_view hf, ordered_json value) {
    const bool in_table = std::any_of(family.keys.begin(), family.keys.end(), [&](const KeyRow& row) { return row.hf == hf; });
    if (in_table && !config.contains(hf)) config[std::string(hf)] = std::move(value);
  };
  default_to("rope_theta", 10000.0);
  if (config.contains("num_attention_heads")) default_to("num_key_value_heads", config["num_attention_heads"]);
  read_rope_scaling(metadata, family, config);
  for (const auto& [id, key] : {std::pair("bos_token_id", "tokenizer.ggml.bos_token_id"), std::pair("eos_token_id", "tokenizer.ggml.eos_token_id")})
    if (const GgufValue* value = find(metadata, key)) config[id] = to_json(*value, 4);
  return config;
}

GgufMetadata metadata_of(const ordered_json& config, const GgufFamily& family) {
  GgufMetadata out{{"general.architecture", gguf_string(std::string(family.architecture))}};
  if (const ordered_json* scaling = find_in(config, "rope_scaling"); scaling && scaling->value("rope_type", scaling->value("type", "default")) != "default")
    fail(ErrorKind::unsupported, "config.json: rope_scaling = {}: scaled rotary positions cannot be written to GGUF here", scaling->dump());
  for (const KeyRow& row : family.keys) {
    const ordered_json* value = find_in(config, row.hf);
    if (!value && row.hf == "rope_theta") value = find_in(config, "rope_parameters.rope_theta");
    if (!value && row.optional) continue;
    if (!value) fail(ErrorKind::config, "config.json: '{}' is missing; GGUF needs it as {}", row.hf, full_key(family, row.gguf));
    if (!has_type(*value, row.type)) fail(ErrorKind::config, "config.json: {} = {}, expected {}", row.hf, value->dump(), describe(row.type));
    const std::string key = full_key(family, row.gguf);
    if (row.type == KeyType::size) out.emplace_back(key, gguf_u32(value->get<int64_t>()));
    else out.emplace_back(key, row.type == KeyType::flag ? gguf_bool(value->get<bool>()) : gguf_f32(value->get<double>()));
  }
  for (const auto& [key, source] : family.repeats)
    if (const GgufValue* value = find(out, full_key(family, source))) out.emplace_back(full_key(family, key), *value);
  if (const ordered_json* size = find_in(config, "vocab_size")) out.emplace_back(full_key(family, "vocab_size"), gguf_u32(size->get<int64_t>()));
  return out;
}

}  // namespace switchyard::io
