// DBRX: joint q, k, v; experts as one matrix of all their rows, the last one stored as it is multiplied from the left.
#include "io/gguf/families/common_rows.h"

namespace switchyard::io {

namespace {

constexpr double kNormEps = 1e-5;  // config.json does not say it: a constant of the family

void write_dbrx(const nlohmann::ordered_json&, KeyWriter& out) { out.number("attention.layer_norm_epsilon", kNormEps); }

void read_dbrx(const KeyReader& file, nlohmann::ordered_json&) {
  if (file.number("attention.layer_norm_epsilon", kNormEps) != kNormEps) file.refuse("attention.layer_norm_epsilon", "1e-05");
}

}  // namespace

GgufFamily gguf_family_dbrx() {
  return {.model_type = "dbrx",
          .hf_class = "DbrxForCausalLM",
          .architecture = "dbrx",
          .names = {{"token_embd.weight", "transformer.wte.weight"},
                    {"blk.{i}.attn_norm.weight", "transformer.blocks.{i}.norm_attn_norm.norm_1.weight"},
                    {"blk.{i}.attn_qkv.weight", "transformer.blocks.{i}.norm_attn_norm.attn.Wqkv.weight"},
                    {"blk.{i}.attn_output.weight", "transformer.blocks.{i}.norm_attn_norm.attn.out_proj.weight"},
                    {"blk.{i}.attn_output_norm.weight", "transformer.blocks.{i}.norm_attn_norm.norm_2.weight"},
                    {"blk.{i}.ffn_gate_inp.weight", "transformer.blocks.{i}.ffn.router.layer.weight"},
                    {"blk.{i}.ffn_gate_exps.weight", "transformer.blocks.{i}.ffn.experts.mlp.w1", Arrange::split_rows},
                    {"blk.{i}.ffn_up_exps.weight", "transformer.blocks.{i}.ffn.experts.mlp.v1", Arrange::split_rows},
                    {"blk.{i}.ffn_down_exps.weight", "transformer.blocks.{i}.ffn.experts.mlp.w2", Arrange::split_transposed},
                    {"output_norm.weight", "transformer.norm_f.weight"},
                    {"output.weight", "lm_head.weight", Arrange::plain, true}},
          .keys = {{"max_seq_len", "context_length"},
                   {"d_model", "embedding_length"},
                   {"n_layers", "block_count"},
                   {"n_heads", "attention.head_count"},
                   {"attn_config.kv_n_heads", "attention.head_count_kv"},
                   {"attn_config.rope_theta", "rope.freq_base", KeyType::number},
                   {"attn_config.clip_qkv", "attention.clamp_kqv", KeyType::number},
                   {"ffn_config.ffn_hidden_size", "feed_forward_length"},
                   {"ffn_config.moe_num_experts", "expert_count"},
                   {"ffn_config.moe_top_k", "expert_used_count"}},
          .known = {"vocab_size", "rope.dimension_count"},
          .more = {"attention.layer_norm_epsilon"},
          .write_more = write_dbrx,
          .read_more = read_dbrx};
}

}  // namespace switchyard::io
