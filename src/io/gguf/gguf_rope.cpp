#include "io/gguf/gguf_rope.h"

#include "base/llama3_rope.h"
#include "switchyard/error.h"

#include <algorithm>
#include <array>

namespace switchyard::io {
namespace {

using nlohmann::ordered_json;

const std::string kType = "rope.scaling.type", kFactor = "rope.scaling.factor",
                  kOriginal = "rope.scaling.original_context_length";
const std::string kFast = "rope.scaling.yarn_beta_fast", kSlow = "rope.scaling.yarn_beta_slow";
// Multiply what the formula of the type gives; 1 says nothing.
const std::array<std::string, 2> kFactors = {"rope.scaling.attn_factor", "rope.scaling.yarn_attn_factor"};
const std::string kFinetuned = "rope.scaling.finetuned";  // about its training

bool is_given(const ordered_json& table, const char* key) { return table.contains(key) && !table[key].is_null(); }

}  // namespace

ordered_json rope_table(const ordered_json& config) {
  ordered_json out = ordered_json::object();
  for (const char* table : {"rope_scaling", "rope_parameters"}) {
    if (!config.contains(table) || !config[table].is_object()) continue;
    for (const auto& [key, value] : config[table].items())
      if (!value.is_null()) out[key == "type" ? "rope_type" : key] = value;
  }
  if (out.value("rope_type", "") == "su") out["rope_type"] = "longrope";
  return out;
}

std::vector<double> rope_divisors(const ordered_json& config) {
  const ordered_json rope = rope_table(config);
  const std::string type = rope.value("rope_type", "default");
  if (type == "longrope" && rope.value("attention_factor", 0.0) == 1 && rope.contains("short_factor") && rope["short_factor"] == rope.value("long_factor", ordered_json()))
    return rope["short_factor"].get<std::vector<double>>();
  if (type != "llama3") return {};
  const auto number = [&](const char* key) {
    if (!is_given(rope, key)) fail(ErrorKind::config, "config.json: rope_scaling = {} has no {}", rope.dump(), key);
    return rope[key].get<double>();
  };
  const Llama3Rope scaling{number("factor"), number("low_freq_factor"), number("high_freq_factor"), number("original_max_position_embeddings")};
  const auto size = [&](const char* key) { return config.contains(key) && config[key].is_number_integer() ? config[key].get<int64_t>() : 0; };
  const int64_t heads = size("num_attention_heads"), dims = size("head_dim") > 0 || heads < 1 ? size("head_dim") : size("hidden_size") / heads;
  const double theta = is_given(config, "rope_theta") ? config["rope_theta"].get<double>() : rope.value("rope_theta", 10000.0);
  return llama3_divisors(scaling, theta, dims);
}

std::vector<float> rope_divisor_tensor(const ordered_json& config, std::string_view) {
  const auto divisors = rope_divisors(config);
  return {divisors.begin(), divisors.end()};
}

void read_rope_divisors(const KeyReader& file, ordered_json& config) {
  if (!file.tensors().has(kRopeDivisors)) return;
  auto divisors = ordered_json::array();
  for (const float value : file.tensors().values(kRopeDivisors)) divisors.push_back(static_cast<double>(value));
  config["rope_scaling"] = {{"rope_type", "longrope"}, {"attention_factor", 1.0}, {"short_factor", divisors}, {"long_factor", divisors},
                            {"original_max_position_embeddings", file.size("context_length")}};
}

void write_rope_scaling(const ordered_json& config, KeyWriter& out) {
  const ordered_json rope = rope_table(config);
  const std::string type = rope.value("rope_type", "default");
  if (type == "default") return;
  if (type != "linear" && type != "yarn")
    fail(ErrorKind::unsupported, "config.json: rope_scaling = {}: rotary positions of type '{}' cannot be written to GGUF here",
         rope.dump(), type);
  if (!is_given(rope, "factor")) fail(ErrorKind::config, "config.json: rope_scaling = {} has no factor", rope.dump());
  out.text(kType, type);
  out.number(kFactor, rope["factor"]);
  if (type == "linear") return;
  if (is_given(rope, "attention_factor"))
    fail(ErrorKind::unsupported, "config.json: rope_scaling.attention_factor = {} cannot be written to GGUF",
         rope["attention_factor"].dump());
  if (!is_given(rope, "original_max_position_embeddings"))
    fail(ErrorKind::config, "config.json: rope_scaling = {} has no original_max_position_embeddings", rope.dump());
  out.size(kOriginal, rope["original_max_position_embeddings"]);
  if (is_given(rope, "beta_fast")) out.number(kFast, rope["beta_fast"]);
  if (is_given(rope, "beta_slow")) out.number(kSlow, rope["beta_slow"]);
}

void read_rope_scaling(const KeyReader& file, ordered_json& config) {
  for (const std::string& key : kFactors)
    if (file.number(key, 1.0) != 1.0) file.refuse(key, "1");
  // A factor without a type is a linear one.
  const std::string type = file.text(kType, file.number(kFactor, 1.0) != 1.0 ? "linear" : "none");
  if (type == "none") return;
  ordered_json rope = {{"rope_type", type}};
  if (file.has(kFactor)) rope["factor"] = file.number(kFactor);
  if (type == "yarn") {
    if (file.has(kOriginal)) rope["original_max_position_embeddings"] = file.size(kOriginal);
    if (file.has(kFast)) rope["beta_fast"] = file.number(kFast);
    if (file.has(kSlow)) rope["beta_slow"] = file.number(kSlow);
  } else if (type != "linear") {
    file.refuse(kType, "none, linear or yarn");
  }
  config["rope_scaling"] = rope;
}

bool is_rope_scaling_key(std::string_view key) {
  return key == kType || key == kFactor || key == kOriginal || key == kFast || key == kSlow || key == kFinetuned ||
         std::find(kFactors.begin(), kFactors.end(), key) != kFactors.end();
}

}  // namespace switchyard::io
