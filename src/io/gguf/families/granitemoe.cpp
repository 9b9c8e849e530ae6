// Granite 3.0 MoE: gate and up rows of all experts in one tensor; multipliers of embedding, residual, attention and logits.
#include "io/gguf/families/common_rows.h"

namespace switchyard::io {

GgufFamily gguf_family_granitemoe() {
  const auto rows = layer_rows(Arrange::query_rows, Arrange::key_rows,
                               {{"blk.{i}.ffn_gate_inp.weight", "model.layers.{i}.block_sparse_moe.router.layer.weight"},
                                {"blk.{i}.ffn_gate_exps.weight", "model.layers.{i}.block_sparse_moe.input_linear.weight", Arrange::first_half},
                                {"blk.{i}.ffn_up_exps.weight", "model.layers.{i}.block_sparse_moe.input_linear.weight", Arrange::second_half},
                                {"blk.{i}.ffn_down_exps.weight", "model.layers.{i}.block_sparse_moe.output_linear.weight"}});
  return {"granitemoe", "GraniteMoeForCausalLM", "granitemoe", true, decoder_rows(rows),
          decoder_keys({{"intermediate_size", "feed_forward_length"},
                        {"num_local_experts", "expert_count"},
                        {"num_experts_per_tok", "expert_used_count"},
                        {"attention_multiplier", "attention.scale", KeyType::number},
                        {"embedding_multiplier", "embedding_scale", KeyType::number},
                        {"residual_multiplier", "residual_scale", KeyType::number},
                        {"logits_scaling", "logit_scale", KeyType::number}}),
          usual_extra_keys(), {}};
}

}  // namespace switchyard::io
