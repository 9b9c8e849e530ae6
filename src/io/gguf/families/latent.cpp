#include "io/gguf/families/latent.h"

#include "io/gguf/gguf_rope.h"
#include "switchyard/error.h"

#include <cstdlib>

namespace switchyard::io {
namespace {

using nlohmann::ordered_json;

const std::string kLogMultiplier = "rope.scaling.yarn_log_multiplier";
constexpr double kYarnLog = 0.1;  // mscale_all_dim stands in the key multiplied by this

const std::vector<NameRow>& latent_layer() {
  static const std::vector<NameRow> rows =
      joined({{"blk.{i}.attn_norm.weight", "model.layers.{i}.input_layernorm.weight"},
              {"blk.{i}.attn_q.weight", "model.layers.{i}.self_attn.q_proj.weight", Arrange::plain, true},
              {"blk.{i}.attn_q_a.weight", "model.layers.{i}.self_attn.q_a_proj.weight", Arrange::plain, true},
              {"blk.{i}.attn_q_a_norm.weight", "model.layers.{i}.self_attn.q_a_layernorm.weight", Arrange::plain, true},
              {"blk.{i}.attn_q_b.weight", "model.layers.{i}.self_attn.q_b_proj.weight", Arrange::plain, true},
              {"blk.{i}.attn_kv_a_mqa.weight", "model.layers.{i}.self_attn.kv_a_proj_with_mqa.weight"},
              {"blk.{i}.attn_kv_a_norm.weight", "model.layers.{i}.self_attn.kv_a_layernorm.weight"},
              {"blk.{i}.attn_k_b.weight", "model.layers.{i}.self_attn.kv_b_proj.weight", Arrange::latent_keys},
              {"blk.{i}.attn_v_b.weight", "model.layers.{i}.self_attn.kv_b_proj.weight", Arrange::latent_values},
              {"blk.{i}.attn_kv_b.weight", "model.layers.{i}.self_attn.kv_b_proj.weight", Arrange::old_whole},
              {"blk.{i}.attn_output.weight", "model.layers.{i}.self_attn.o_proj.weight"},
              {"blk.{i}.ffn_norm.weight", "model.layers.{i}.post_attention_layernorm.weight"}},
             joined(joined(dense_rows(true), expert_rows(true)), shared_expert_rows()));
  return rows;
}

std::vector<KeyRow> keys() {
  std::vector<KeyRow> out;
  for (const KeyRow& row : decoder_keys(joined(routing_keys(), {{"intermediate_size", "feed_forward_length"},
                                                                {"q_lora_rank", "attention.q_lora_rank", KeyType::size, true},
                                                                {"kv_lora_rank", "attention.kv_lora_rank"},
                                                                {"qk_rope_head_dim", "rope.dimension_count"},
                                                                vocab_size_key()})))
    if (row.hf != "num_key_value_heads" && row.hf != "norm_topk_prob") out.push_back(row);
  return out;
}

}  // namespace

GgufFamily latent_family(std::string_view model_type, std::string_view hf_class) {
  return {
      .model_type = model_type,
      .hf_class = hf_class,
      .architecture = "deepseek2",
      .names = decoder_rows(latent_layer()),
      .keys = keys(),
      .known = {"vocab_size", "tensor_data_layout"},
      .more = {"attention.head_count_kv", "attention.key_length", "attention.value_length", "attention.key_length_mla",
               "attention.value_length_mla", "expert_gating_func", "expert_weights_norm", kLogMultiplier, "nextn_predict_layers"},
      .read_more = read_latent_keys,
      .drops_extra_layers = true};
}

void write_latent_keys(const ordered_json& config, const std::string& scoring, bool renormalise, KeyWriter& out) {
  const int64_t nope = needed(config, "qk_nope_head_dim"), rope = needed(config, "qk_rope_head_dim"),
                rank = needed(config, "kv_lora_rank");
  // The compressed keys and values are one head that all queries share.
  out.size("attention.head_count_kv", 1);
  out.size("attention.key_length", rank + rope);
  out.size("attention.value_length", rank);
  out.size("attention.key_length_mla", nope + rope);
  out.size("attention.value_length_mla", needed(config, "v_head_dim"));
  const std::string by = config.value("scoring_func", scoring);
  if (by != "softmax" && by != "sigmoid")
    fail(ErrorKind::unsupported, "config.json: scoring_func = '{}' cannot be written to GGUF here", by);
  out.size("expert_gating_func", by == "softmax" ? kSoftmaxGating : kSigmoidGating);
  if (config.value("norm_topk_prob", renormalise)) out.flag("expert_weights_norm", true);
  const ordered_json scaling = rope_table(config);
  if (scaling.value("rope_type", "default") == "yarn" && scaling.contains("mscale_all_dim"))
    out.number(kLogMultiplier, kYarnLog * scaling["mscale_all_dim"].get<double>());
}

void read_latent_keys(const KeyReader& file, ordered_json& config) {
  const bool split = file.has("attention.key_length_mla");
  const int64_t rope = file.size("rope.dimension_count"),
                key = file.size(split ? "attention.key_length_mla" : "attention.key_length");
  if (key <= rope)
    file.refuse(split ? "attention.key_length_mla" : "attention.key_length",
                fmt::format("more than rope.dimension_count = {}", rope));
  config["qk_nope_head_dim"] = key - rope;
  config["v_head_dim"] = file.size(split ? "attention.value_length_mla" : "attention.value_length");
  config["num_key_value_heads"] = config["num_attention_heads"];
  config["num_hidden_layers"] = file.size("block_count") - file.size("nextn_predict_layers", 0);
  if (!config.contains("q_lora_rank")) config["q_lora_rank"] = nullptr;
  config["norm_topk_prob"] = file.flag("expert_weights_norm", false);
  const int64_t gating = file.size("expert_gating_func", kSoftmaxGating);
  if (gating != kSoftmaxGating && gating != kSigmoidGating) file.refuse("expert_gating_func", "1, softmax, or 2, sigmoid");
  config["scoring_func"] = gating == kSoftmaxGating ? "softmax" : "sigmoid";
  const bool biased = file.tensors().has(fmt::format("blk.{}.exp_probs_b.bias", file.size("leading_dense_block_count")));
  config["topk_method"] = biased ? "noaux_tc" : config.value("n_group", int64_t{1}) > 1 ? "group_limited_greedy" : "greedy";
  if (file.has(kLogMultiplier) && config.contains("rope_scaling")) {
    // The nearest float32 to the quotient, so that 0.0707 is 0.707 again. One number says both: they cancel in the rotation.
    const auto all = static_cast<float>(file.number(kLogMultiplier) / kYarnLog);
    config["rope_scaling"]["mscale"] = config["rope_scaling"]["mscale_all_dim"] =
        std::strtod(fmt::format("{}", all).c_str(), nullptr);
  }
}

}  // namespace switchyard::io
