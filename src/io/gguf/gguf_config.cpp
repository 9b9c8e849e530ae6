#include "io/gguf/gguf_config.h"

#include "io/gguf/gguf_rope.h"
#include "switchyard/error.h"

#include <algorithm>

namespace switchyard::io {
namespace {

using nlohmann::ordered_json;

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
  if (type == KeyType::number) return value.is_number();
  return value.is_number_integer() && value >= 0 && !(value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX);
}

std::string_view describe(KeyType type) {
  return type == KeyType::flag ? "true or false" : type == KeyType::number ? "a number" : "one size";
}

template <class Range, class Value>
bool holds(const Range& range, const Value& value) {
  return std::find(range.begin(), range.end(), value) != range.end();
}

bool in_table(const GgufFamily& family, std::string_view key) {
  return std::any_of(family.keys.begin(), family.keys.end(), [&](const KeyRow& row) { return row.gguf == key; });
}

void refuse_unknown_keys(const KeyReader& file, const GgufFamily& family) {
  const std::string prefix = file.full("");
  for (const auto& [key, value] : file.metadata()) {
    if (!key.starts_with(prefix)) continue;
    const std::string_view rest = std::string_view(key).substr(prefix.size());
    const bool known =
        in_table(family, rest) || holds(family.known, rest) || holds(family.more, rest) || is_rope_scaling_key(rest);
    const bool says_none = rest.starts_with("expert_") && to_json(value, 4) == 0;  // a dense file may say that it has no experts
    if (!known && !says_none)
      fail(ErrorKind::unsupported, "{}: metadata '{}' (= {}) is not known and may change what the model computes", file.file(),
           key, shown(value));
  }
}

// Rotary positions on a part of each head, or values of another width than keys, are other models where a family does not read
// them.
void check_head_sizes(const KeyReader& file, const GgufFamily& family) {
  const auto is_read = [&](std::string_view key) {
    return holds(family.more, key) || (in_table(family, key) && key != "attention.key_length");
  };
  if (is_read("attention.key_length")) return;
  const int64_t heads = file.size("attention.head_count");
  const int64_t usual = file.size("embedding_length") / std::max<int64_t>(heads, 1);
  const int64_t width = file.size("attention.key_length", usual);
  for (const char* key : {"attention.value_length", "rope.dimension_count"}) {
    const int64_t size = file.size(key, width);
    if (!is_read(key) && size != width)
      fail(ErrorKind::unsupported, "{}: {} = {}, but a head has {} values", file.file(), file.full(key), size, width);
  }
}

void read_rows(const KeyReader& file, const GgufFamily& family, ordered_json& config) {
  for (const KeyRow& row : family.keys) {
    const GgufValue* value = file.value(row.gguf);
    if (!value && row.optional) continue;
    const ordered_json plain = value ? to_json(*value, 4) : ordered_json();
    if (!has_type(plain, row.type)) file.refuse(row.gguf, describe(row.type));
    config[pointer_to(row.hf)] = plain;
  }
  // Defaults of GGUF that are not those of every config.json.
  const auto default_to = [&](std::string_view hf, ordered_json value) {
    const bool is_row = std::any_of(family.keys.begin(), family.keys.end(), [&](const KeyRow& row) { return row.hf == hf; });
    if (is_row && !config.contains(hf)) config[std::string(hf)] = std::move(value);
  };
  default_to("rope_theta", 10000.0);
  if (config.contains("num_attention_heads")) default_to("num_key_value_heads", config["num_attention_heads"]);
}

void write_rows(const ordered_json& config, const GgufFamily& family, KeyWriter& out) {
  for (const KeyRow& row : family.keys) {
    const ordered_json* value = find_in(config, row.hf);
    if (!value && row.hf == "rope_theta") value = find_in(config, "rope_parameters.rope_theta");
    if (!value && row.optional) continue;
    if (!value)
      fail(ErrorKind::config, "config.json: '{}' is missing; GGUF needs it as {}.{}", row.hf, family.architecture, row.gguf);
    if (!has_type(*value, row.type))
      fail(ErrorKind::config, "config.json: {} = {}, expected {}", row.hf, value->dump(), describe(row.type));
    if (row.type == KeyType::size) out.size(row.gguf, value->get<int64_t>());
    else if (row.type == KeyType::flag) out.flag(row.gguf, value->get<bool>());
    else out.number(row.gguf, value->get<double>());
  }
}

}  // namespace

ordered_json config_of(const GgufMetadata& metadata, const GgufFamily& family, const TensorFacts& tensors,
                       const std::string& name) {
  const KeyReader file(family.architecture, metadata, tensors, name);
  refuse_unknown_keys(file, family);
  check_head_sizes(file, family);
  ordered_json config = {{"architectures", {family.hf_class}}, {"model_type", family.model_type}};
  read_rows(file, family, config);
  if (!holds(family.more, std::string_view("rope.scaling.attn_factor"))) read_rope_scaling(file, config);
  if (family.read_more) family.read_more(file, config);
  for (const auto& [id, key] :
       {std::pair("bos_token_id", "tokenizer.ggml.bos_token_id"), std::pair("eos_token_id", "tokenizer.ggml.eos_token_id")})
    if (const GgufValue* value = find(metadata, key)) config[id] = to_json(*value, 4);
  return config;
}

GgufMetadata metadata_of(const ordered_json& config, const GgufFamily& family) {
  GgufMetadata metadata{{"general.architecture", gguf_string(std::string(family.architecture))}};
  KeyWriter out(family.architecture, metadata);
  const bool by_tensor = holds(family.config_tensors, kRopeDivisors) && !rope_divisors(config).empty();
  if (!by_tensor && !holds(family.more, std::string_view("rope.scaling.attn_factor"))) write_rope_scaling(config, out);
  write_rows(config, family, out);
  for (const auto& [key, source] : family.repeats)
    if (const GgufValue* value = find(metadata, fmt::format("{}.{}", family.architecture, source))) out.put(key, *value);
  if (family.write_more) family.write_more(config, out);
  return metadata;
}

LayoutSizes layout_sizes(const KeyReader& file) {
  LayoutSizes out;
  out.heads = file.size("attention.head_count");
  // A list: layers without attention have none, and no tensor to arrange.
  const GgufValue* kv = file.value("attention.head_count_kv");
  if (!kv || !kv->array()) out.kv_heads = file.size("attention.head_count_kv", out.heads);
  out.experts = file.size("expert_count", 0);
  if (file.has("attention.key_length_mla")) {
    out.nope = file.size("attention.key_length_mla") - file.size("rope.dimension_count");
    out.v = file.size("attention.value_length_mla");
  }
  return out;
}

int64_t layer_count(const KeyReader& file) {
  const int64_t all = file.size("block_count"), extra = file.size("nextn_predict_layers", 0);
  if (extra > all) file.refuse("nextn_predict_layers", fmt::format("at most block_count = {}", all));
  return all - extra;
}

}  // namespace switchyard::io
