// GLM-4.5: experts as DeepSeek-V3, grouped queries of which a part turns, biases and norms of heads where tensors say so. Layers
// for further tokens stand behind the last one in files, and block_count counts them.
#include "io/gguf/families/gating.h"
#include "switchyard/error.h"

#include <algorithm>

namespace switchyard::io {
namespace {

const std::vector<NameRow>& layer() {
  static const std::vector<NameRow> rows =
      joined(joined(joined({{"blk.{i}.attn_norm.weight", "model.layers.{i}.input_layernorm.weight"},
                            {"blk.{i}.attn_q.weight", "model.layers.{i}.self_attn.q_proj.weight"},
                            {"blk.{i}.attn_k.weight", "model.layers.{i}.self_attn.k_proj.weight"},
                            {"blk.{i}.attn_v.weight", "model.layers.{i}.self_attn.v_proj.weight"},
                            {"blk.{i}.attn_output.weight", "model.layers.{i}.self_attn.o_proj.weight"},
                            {"blk.{i}.post_attention_norm.weight", "model.layers.{i}.post_attention_layernorm.weight"}},
                           joined(qkv_bias_rows(true), qk_norm_rows(true))),
                    joined(dense_rows(true), expert_rows(true))),
             shared_expert_rows());
  return rows;
}

void write_glm4_moe(const nlohmann::ordered_json& config, KeyWriter& out) {
  const auto rope = config.value("rope_parameters", nlohmann::ordered_json::object());
  const double part = config.value("partial_rotary_factor", rope.value("partial_rotary_factor", 0.5));
  const int64_t usual =
      config.at("hidden_size").get<int64_t>() / std::max<int64_t>(config.at("num_attention_heads").get<int64_t>(), 1);
  out.size("rope.dimension_count", static_cast<int64_t>(part * static_cast<double>(config.value("head_dim", usual))));
  out.size("expert_gating_func", kSigmoidGating);
}

void read_glm4_moe(const KeyReader& file, nlohmann::ordered_json& config) {
  const int64_t usual = file.size("embedding_length") / std::max<int64_t>(file.size("attention.head_count"), 1);
  const int64_t width = file.size("attention.key_length", usual), turning = file.size("rope.dimension_count", width);
  if (turning < 1 || turning > width) file.refuse("rope.dimension_count", fmt::format("1 to {}", width));
  if (file.size("attention.value_length", width) != width) file.refuse("attention.value_length", fmt::format("{}", width));
  config["partial_rotary_factor"] = static_cast<double>(turning) / static_cast<double>(width);
  config["num_hidden_layers"] = file.size("block_count") - file.size("nextn_predict_layers", 0);
  config["attention_bias"] = file.tensors().has("blk.0.attn_q.bias");
  config["use_qk_norm"] = file.tensors().has("blk.0.attn_q_norm.weight");
  if (file.size("expert_gating_func", kSigmoidGating) != kSigmoidGating) file.refuse("expert_gating_func", "2, sigmoid");
  if (!config.contains("norm_topk_prob")) config["norm_topk_prob"] = false;  // what a file means, not what a config.json means
}

}  // namespace

GgufFamily gguf_family_glm4_moe() {
  return {.model_type = "glm4_moe",
          .hf_class = "Glm4MoeForCausalLM",
          .architecture = "glm4moe",
          .names = decoder_rows(layer()),
          .keys = decoder_keys(joined(routing_keys(), {{"intermediate_size", "feed_forward_length"}, head_dim_key()})),
          .known = {"vocab_size", "tensor_data_layout"},
          .repeats = value_length_too(),
          .more = {"attention.value_length", "rope.dimension_count", "expert_gating_func", "nextn_predict_layers"},
          .write_more = write_glm4_moe,
          .read_more = read_glm4_moe,
          .drops_extra_layers = true};
}

}  // namespace switchyard::io
