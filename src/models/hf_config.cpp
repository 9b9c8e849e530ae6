#include "models/hf_config.h"

#include "base/config_tree.h"
#include "switchyard/error.h"
#include "switchyard/fields.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace switchyard {
namespace {

// Bookkeeping, generation defaults and output switches: they do not touch logits.
constexpr std::array<std::string_view, 57> kHarmless{"_name_or_path",
                                                     "add_cross_attention",
                                                     "architectures",
                                                     "attention_dropout",
                                                     "attn_pdrop",
                                                     "auto_map",
                                                     "emb_pdrop",
                                                     "ffn_dropout",
                                                     "hidden_dropout",
                                                     "initializer_range",
                                                     "resid_pdrop",
                                                     "use_mamba_kernels",
                                                     "num_logits_to_keep",
                                                     "attn_implementation",
                                                     "_attn_implementation_autoset",
                                                     "bad_words_ids",
                                                     "begin_suppress_tokens",
                                                     "bos_token_id",
                                                     "chunk_size_feed_forward",
                                                     "decoder_start_token_id",
                                                     "do_sample",
                                                     "dtype",
                                                     "eos_token_id",
                                                     "finetuning_task",
                                                     "forced_bos_token_id",
                                                     "forced_eos_token_id",
                                                     "gradient_checkpointing",
                                                     "id2label",
                                                     "is_decoder",
                                                     "is_encoder_decoder",
                                                     "label2id",
                                                     "length_penalty",
                                                     "max_length",
                                                     "min_length",
                                                     "model_type",
                                                     "no_repeat_ngram_size",
                                                     "num_beams",
                                                     "num_return_sequences",
                                                     "output_attentions",
                                                     "output_hidden_states",
                                                     "output_router_logits",
                                                     "output_scores",
                                                     "pad_token_id",
                                                     "prefix",
                                                     "pretraining_tp",
                                                     "problem_type",
                                                     "repetition_penalty",
                                                     "return_dict",
                                                     "sep_token_id",
                                                     "task_specific_params",
                                                     "temperature",
                                                     "tokenizer_class",
                                                     "top_k",
                                                     "top_p",
                                                     "torch_dtype",
                                                     "transformers_version",
                                                     "use_cache"};

std::string head(const ConfigNode& node) { return node.location().empty() ? "config.json: " : node.location(); }

std::string text_of(const ConfigNode& node) { return to_json(node).dump(); }

}  // namespace

HfConfig::HfConfig(const ConfigNode& config, std::string path) : config_(config), path_(std::move(path)) {
  if (!config.is_table()) detail::wrong_type(config, "config.json", "an object");
}

const ConfigNode* HfConfig::take(std::string_view key) {
  taken_.emplace(key);
  const ConfigNode* node = config_.find(key);
  return node && !node->is_null() ? node : nullptr;
}

int64_t HfConfig::size(std::string_view key, std::optional<int64_t> absent) {
  const ConfigNode* node = take(key);
  if (!node) {
    if (absent) return *absent;
    fail(ErrorKind::config, "{}'{}' is missing", head(config_), key);
  }
  int64_t value = 0;
  read_any(*node, std::string(key), value);
  if (value < 1) fail(ErrorKind::config, "{}{} = {}, expected at least 1", head(*node), key, value);
  return value;
}

double HfConfig::number(std::string_view key, std::optional<double> absent) {
  const ConfigNode* node = take(key);
  if (!node) {
    if (absent) return *absent;
    fail(ErrorKind::config, "{}'{}' is missing", head(config_), key);
  }
  double value = 0;
  read_any(*node, std::string(key), value);
  if (!std::isfinite(value)) fail(ErrorKind::config, "{}{} = {}, expected a finite number", head(*node), key, value);
  return value;
}

int64_t HfConfig::integer(std::string_view key, int64_t absent) {
  const ConfigNode* node = take(key);
  if (!node) return absent;
  read_any(*node, path_ + std::string(key), absent);
  if (absent < 0) fail(ErrorKind::config, "{}{} = {}, expected 0 or more", head(*node), key, absent);
  return absent;
}

bool HfConfig::flag(std::string_view key, bool absent) {
  const ConfigNode* node = take(key);
  if (node) read_any(*node, std::string(key), absent);
  return absent;
}

void HfConfig::only(std::string_view key, const ConfigNode& value, std::string_view why) {
  const ConfigNode* node = take(key);
  if (node && text_of(*node) != text_of(value)) fail(ErrorKind::unsupported, "{}{} = {}: {}", head(*node), key, text_of(*node), why);
}

std::string HfConfig::text(std::string_view key, const std::string& absent) {
  std::string out = absent;
  if (const ConfigNode* node = take(key)) read_any(*node, path_ + std::string(key), out);
  return out;
}

std::vector<std::string> HfConfig::texts(std::string_view key) {
  std::vector<std::string> out;
  if (const ConfigNode* node = take(key)) read_any(*node, path_ + std::string(key), out);
  return out;
}

std::vector<int64_t> HfConfig::integers(std::string_view key) {
  std::vector<int64_t> out;
  if (const ConfigNode* node = take(key)) read_any(*node, path_ + std::string(key), out);
  return out;
}

std::vector<std::vector<int64_t>> HfConfig::integer_rows(std::string_view key) {
  std::vector<std::vector<int64_t>> out;
  const ConfigNode* node = take(key);
  if (!node) return out;
  if (!node->array()) detail::wrong_type(*node, path_ + std::string(key), "a list of lists");
  for (size_t i = 0; i < node->array()->size(); ++i) read_any((*node->array())[i], fmt::format("{}{}[{}]", path_, key, i), out.emplace_back());
  return out;
}

std::vector<double> HfConfig::numbers(std::string_view key, double absent) {
  const ConfigNode* node = take(key);
  std::vector<double> out;
  if (node && node->array()) read_any(*node, path_ + std::string(key), out);
  else out.push_back(number(key, absent));
  for (const double value : out)
    if (!std::isfinite(value)) fail(ErrorKind::config, "{}{}{} holds {}, expected finite numbers", head(config_), path_, key, value);
  return out;
}

bool HfConfig::has(std::string_view key) const {
  const ConfigNode* node = config_.find(key);
  return node && !node->is_null();
}

bool HfConfig::is_text(std::string_view key, std::string_view value) {
  const ConfigNode* node = take(key);
  return node && node->string() && *node->string() == value;
}

HfConfig HfConfig::nested(std::string_view key) {
  static const ConfigNode nothing{ConfigNode::Table{}};
  const ConfigNode* node = take(key);
  return HfConfig(node ? *node : nothing, path_ + std::string(key) + ".");
}

namespace {

// Keys of one table of rotary parameters, by any of the names in use.
struct RopeTable {
  std::optional<double> theta, partial;
  RopeSpec rope;
};

std::vector<double> numbers(const ConfigNode& node, const std::string& path) {
  std::vector<double> out;
  read_any(node, path, out);
  return out;
}

void read_rope_key(RopeTable& out, const std::string& key, const ConfigNode& node, const std::string& path) {
  RopeSpec& r = out.rope;
  const auto number = [&](double& to) { read_any(node, path, to); };
  if (key == "rope_theta") out.theta.emplace(), number(*out.theta);
  else if (key == "partial_rotary_factor") out.partial.emplace(), number(*out.partial);
  else if (key == "factor") number(r.factor);
  else if (key == "attention_factor") number(r.attention_factor);
  else if (key == "beta_fast") number(r.beta_fast);
  else if (key == "beta_slow") number(r.beta_slow);
  else if (key == "mscale") number(r.mscale);
  else if (key == "mscale_all_dim") number(r.mscale_all_dim);
  else if (key == "low_freq_factor") number(r.low_freq_factor);
  else if (key == "high_freq_factor") number(r.high_freq_factor);
  else if (key == "short_mscale") number(r.short_mscale);
  else if (key == "long_mscale") number(r.long_mscale);
  else if (key == "short_factor") r.short_factor = numbers(node, path);
  else if (key == "long_factor") r.long_factor = numbers(node, path);
  else if (key == "truncate") read_any(node, path, r.truncate);
  else if (key == "original_max_position_embeddings") read_any(node, path, r.original_positions);
  else fail(ErrorKind::unsupported, "{}{} = {} is not known and may change the rotary positions", head(node), path, text_of(node));
}

void read_rope_type(RopeTable& out, const ConfigNode& node, const std::string& path) {
  std::string type;
  read_any(node, path, type);
  if (type == "su") type = "longrope";  // its first name
  if (type != "default" && type != "linear" && type != "dynamic" && type != "yarn" && type != "llama3" && type != "longrope")
    fail(ErrorKind::unsupported, "{}{} = '{}': expected default, linear, dynamic, yarn, llama3 or longrope", head(node), path, type);
  if (type != "default") out.rope.scaling = type;  // what one of two tables says, the other need not repeat
}

}  // namespace

void HfConfig::read_rope(ModelSpec& spec, double absent_theta, double absent_partial) {
  RopeTable out;
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const ConfigNode* table = take(key);
    if (!table) continue;
    if (!table->is_table()) detail::wrong_type(*table, key, "an object");
    for (const auto& [name, node] : *table->table()) {
      const std::string path = std::string(key) + "." + name;
      if (name == "rope_type" || name == "type") read_rope_type(out, node, path);
      else if (!node.is_null()) read_rope_key(out, name, node, path);
    }
  }
  const double outer = number("rope_theta", out.theta.value_or(absent_theta));
  if (out.theta && *out.theta != outer) fail(ErrorKind::config, "{}rope_theta = {}, but rope_parameters.rope_theta = {}", head(config_), outer, *out.theta);
  spec.rope_theta = outer;
  const double partial = number("partial_rotary_factor", out.partial.value_or(absent_partial));
  if (out.rope.original_positions == 0) out.rope.original_positions = size("original_max_position_embeddings", 0);
  if (!(partial > 0 && partial <= 1)) fail(ErrorKind::config, "{}partial_rotary_factor = {}, expected a number above 0 and at most 1", head(config_), partial);
  // What a scaling does not use would only make equal models look different.
  if (out.rope.scaling == "none") out.rope = {};
  spec.rope = out.rope;
  if (partial < 1) spec.rope.dims = static_cast<int64_t>(partial * static_cast<double>(spec.head_dim));
}

void HfConfig::refuse_other_keys() const {
  for (const auto& [key, node] : *config_.table())
    if (!node.is_null() && !taken_.count(key) && std::find(kHarmless.begin(), kHarmless.end(), key) == kHarmless.end())
      fail(ErrorKind::unsupported, "{}key '{}{}' (= {}) is not known and may change what the model computes", head(node), path_, key, text_of(node));
}

}  // namespace switchyard
