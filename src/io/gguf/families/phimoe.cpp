// Phi-3.5-MoE: LayerNorm with biases, biases in attention and head where tensors say so, a window, positions stretched by
// longrope: its factors are two tensors, and the scale of sine and cosine is rope.scaling.attn_factor.
#include "io/gguf/families/common_rows.h"
#include "io/gguf/gguf_rope.h"
#include "switchyard/error.h"

#include <cmath>

namespace switchyard::io {
namespace {

using nlohmann::ordered_json;

const std::string kOriginal = "rope.scaling.original_context_length", kAttnFactor = "rope.scaling.attn_factor";
constexpr std::string_view kLong = "rope_factors_long.weight", kShort = "rope_factors_short.weight";

bool is_stretched(const ordered_json& rope) {
  const std::string type = rope.value("rope_type", "default");
  if (type != "default" && type != "longrope")
    fail(ErrorKind::unsupported,
         "config.json: rope_scaling = {}: rotary positions of type '{}' cannot be written to GGUF in this family", rope.dump(),
         type);
  return type == "longrope";
}

// arXiv:2402.13753, as config.json means it when it gives no factor.
double usual_attn_factor(double positions, double original) {
  return positions <= original ? 1 : std::sqrt(1 + std::log(positions / original) / std::log(original));
}

int64_t original_positions(const ordered_json& config, const ordered_json& rope) {
  for (const ordered_json* table : {&rope, &config})
    if (table->contains("original_max_position_embeddings")) return table->at("original_max_position_embeddings");
  fail(ErrorKind::config, "config.json: rope_scaling = {} has no original_max_position_embeddings", rope.dump());
}

void write_phimoe(const ordered_json& config, KeyWriter& out) {
  write_rotary_width(config, out);
  const auto window = config.find("sliding_window");
  out.size("attention.sliding_window", window != config.end() && window->is_number_integer() ? window->get<int64_t>() : 0);
  const ordered_json rope = rope_table(config);
  if (!is_stretched(rope)) return;
  const int64_t original = original_positions(config, rope), positions = config.at("max_position_embeddings");
  out.size(kOriginal, original);
  double factor = usual_attn_factor(static_cast<double>(positions), static_cast<double>(original));
  if (rope.value("short_mscale", 0.0) != rope.value("long_mscale", 0.0))
    fail(ErrorKind::unsupported,
         "config.json: rope_scaling: short_mscale = {}, but long_mscale = {}: GGUF has one number for both",
         rope.value("short_mscale", 0.0), rope.value("long_mscale", 0.0));
  if (rope.contains("attention_factor")) factor = rope["attention_factor"];
  if (rope.contains("long_mscale")) factor = rope["long_mscale"];
  out.number(kAttnFactor, factor);
}

std::vector<float> config_tensor(const ordered_json& config, std::string_view name) {
  const ordered_json rope = rope_table(config);
  if (!is_stretched(rope)) return {};
  const char* key = name == kLong ? "long_factor" : "short_factor";
  if (!rope.contains(key)) fail(ErrorKind::config, "config.json: rope_scaling = {} has no {}", rope.dump(), key);
  return rope[key].get<std::vector<float>>();
}

void read_phimoe(const KeyReader& file, ordered_json& config) {
  if (const int64_t window = file.size("attention.sliding_window", 0); window > 0) config["sliding_window"] = window;
  config["attention_bias"] = file.tensors().has("blk.0.attn_q.bias");
  config["lm_head_bias"] = file.tensors().has("output.bias");
  if (!file.tensors().has(kLong)) return;
  const int64_t original = file.size(kOriginal), positions = file.size("context_length");
  ordered_json rope = {{"rope_type", "longrope"}, {"original_max_position_embeddings", original}};
  for (const auto& [key, name] : {std::pair("long_factor", kLong), std::pair("short_factor", kShort)}) {
    rope[key] = ordered_json::array();
    for (const float value : file.tensors().values(name)) rope[key].push_back(static_cast<double>(value));
  }
  const double usual = usual_attn_factor(static_cast<double>(positions), static_cast<double>(original)),
               factor = file.number(kAttnFactor, usual);
  if (static_cast<float>(factor) != static_cast<float>(usual)) rope["short_mscale"] = rope["long_mscale"] = factor;
  config["rope_scaling"] = rope;
}

const std::vector<NameRow>& layer() {
  static const std::vector<NameRow> rows =
      layer_rows(Arrange::plain, Arrange::plain,
                 joined(joined({{"blk.{i}.attn_norm.bias", "model.layers.{i}.input_layernorm.bias"},
                                {"blk.{i}.ffn_norm.bias", "model.layers.{i}.post_attention_layernorm.bias"},
                                {"blk.{i}.attn_output.bias", "model.layers.{i}.self_attn.o_proj.bias", Arrange::plain, true}},
                               qkv_bias_rows(true)),
                        mixtral_expert_rows()));
  return rows;
}

}  // namespace

GgufFamily gguf_family_phimoe() {
  const std::vector<NameRow> outer = {{"output_norm.bias", "model.norm.bias"},
                                      {"output.bias", "lm_head.bias", Arrange::plain, true}};
  return {.model_type = "phimoe",
          .hf_class = "PhimoeForCausalLM",
          .architecture = "phimoe",
          .names = joined(decoder_rows(layer()), outer),
          .keys = decoder_keys({{"intermediate_size", "feed_forward_length"},
                                {"num_local_experts", "expert_count"},
                                {"num_experts_per_tok", "expert_used_count"}}),
          .known = usual_extra_keys(),
          .more = {"attention.sliding_window", kOriginal, kAttnFactor},
          .write_more = write_phimoe,
          .read_more = read_phimoe,
          .config_tensors = {kLong, kShort},
          .config_tensor = config_tensor};
}

}  // namespace switchyard::io
