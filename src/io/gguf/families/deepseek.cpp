// DeepSeekMoE: the attention of Llama with its order of rows; weights of the chosen as they are.
#include "io/gguf/families/gating.h"

namespace switchyard::io {
namespace {

void write_deepseek(const nlohmann::ordered_json& config, KeyWriter& out) {
  write_rotary_width(config, out);
  out.number("expert_weights_scale", 1.0);
  if (config.value("scoring_func", "softmax") == "softmax") out.size("expert_gating_func", kSoftmaxGating);
}

void read_deepseek(const KeyReader& file, nlohmann::ordered_json& config) {
  if (file.number("expert_weights_scale", 1.0) != 1.0) file.refuse("expert_weights_scale", "1");
  if (file.size("expert_gating_func", kSoftmaxGating) != kSoftmaxGating) file.refuse("expert_gating_func", "1, softmax");
  config["scoring_func"] = "softmax";
  config["routed_scaling_factor"] = 1.0;
  config["norm_topk_prob"] = false;
}

}  // namespace

GgufFamily gguf_family_deepseek() {
  return {.model_type = "deepseek",
          .hf_class = "DeepseekForCausalLM",
          .architecture = "deepseek",
          .names = decoder_rows(layer_rows(Arrange::query_rows, Arrange::key_rows,
                                           joined(joined(dense_rows(true), expert_rows(true)), shared_expert_rows()))),
          .keys = decoder_keys({{"intermediate_size", "feed_forward_length"},
                                {"moe_intermediate_size", "expert_feed_forward_length"},
                                {"n_routed_experts", "expert_count"},
                                {"num_experts_per_tok", "expert_used_count"},
                                {"n_shared_experts", "expert_shared_count"},
                                {"first_k_dense_replace", "leading_dense_block_count"},
                                head_dim_key(),
                                vocab_size_key()}),
          .known = usual_extra_keys(),
          .repeats = value_length_too(),
          .more = {"expert_weights_scale", "expert_gating_func"},
          .write_more = write_deepseek,
          .read_more = read_deepseek};
}

}  // namespace switchyard::io
