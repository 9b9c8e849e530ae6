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
constexpr std::array<std::string_view, 48> kHarmless{"_name_or_path",
                                                     "add_cross_attention",
                                                     "architectures",
                                                     "attention_dropout",
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

HfConfig::HfConfig(const ConfigNode& config) : config_(config) {
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

bool HfConfig::flag(std::string_view key, bool absent) {
  const ConfigNode* node = take(key);
  if (node) read_any(*node, std::string(key), absent);
  return absent;
}

void HfConfig::only(std::string_view key, const ConfigNode& value, std::string_view why) {
  const ConfigNode* node = take(key);
  if (node && text_of(*node) != text_of(value)) fail(ErrorKind::unsupported, "{}{} = {}: {}", head(*node), key, text_of(*node), why);
}

void HfConfig::check_rope_table(const ConfigNode& table, std::string_view key, std::optional<double>& theta) {
  if (!table.is_table()) detail::wrong_type(table, std::string(key), "an object");
  for (const auto& [name, node] : *table.table()) {
    const bool plain_type = (name == "rope_type" || name == "type") && node.string() && *node.string() == "default";
    if (name == "rope_theta") read_any(node, std::string(key) + ".rope_theta", theta);
    else if (!plain_type)
      fail(ErrorKind::unsupported, "{}{}.{} = {}: only plain rotary positions (rope_type \"default\") are supported", head(node), key, name, text_of(node));
  }
}

double HfConfig::rope_theta(double absent) {
  std::optional<double> inner;
  for (const char* key : {"rope_parameters", "rope_scaling"})
    if (const ConfigNode* table = take(key)) check_rope_table(*table, key, inner);
  const double outer = number("rope_theta", inner.value_or(absent));
  if (inner && *inner != outer) fail(ErrorKind::config, "{}rope_theta = {}, but rope_parameters.rope_theta = {}", head(config_), outer, *inner);
  return outer;
}

void HfConfig::refuse_other_keys() const {
  for (const auto& [key, node] : *config_.table())
    if (!node.is_null() && !taken_.count(key) && std::find(kHarmless.begin(), kHarmless.end(), key) == kHarmless.end())
      fail(ErrorKind::unsupported, "{}key '{}' (= {}) is not known and may change what the model computes", head(node), key, text_of(node));
}

}  // namespace switchyard
