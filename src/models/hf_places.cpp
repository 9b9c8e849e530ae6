#include "models/hf_places.h"

#include "models/mixer_of.h"
#include "switchyard/error.h"

namespace switchyard {

GatedNames gated_names(const std::string& prefix, const GatedNames& m) {
  return {prefix + m.gate + ".weight", prefix + m.up + ".weight", prefix + m.down + ".weight"};
}

void add_norm_places(Places& out, const std::string& stored, const std::string& parameter, const ModelSpec& s) {
  out.push_back({stored + ".weight", parameter, {{"hidden_size", s.d_model}}});
  if (s.norm == "layer") out.push_back({stored + ".bias", parameter + "_bias", {{"hidden_size", s.d_model}}});
}

void add_outer_places(Places& out, const ModelSpec& s, const HfNames& names) {
  const std::vector<Dimension> vocabulary{{"vocab_size", s.vocab_size}, {"hidden_size", s.d_model}};
  out.push_back({names.embed, "embed", vocabulary});
  add_norm_places(out, names.norm, "norm", s);
  if (!s.tie_embeddings) out.push_back({names.head + ".weight", "head", vocabulary});
  if (s.head_bias) out.push_back({names.head + ".bias", "head_bias", {{"vocab_size", s.vocab_size}}});
}

namespace {

void add_plain_attention(Places& out, const ModelSpec& s, const BlockSpec& mixer, const std::string& file, const std::string& model) {
  const Dimension d{"hidden_size", s.d_model}, q{"num_attention_heads * head_dim", s.num_heads * s.head_dim},
      kv{"num_key_value_heads * head_dim", s.num_kv_heads * s.head_dim}, c{"head_dim", s.head_dim};
  const bool qkv_bias = option_of(mixer, "qkv_bias", false);
  const auto projection = [&](const char* name, const Dimension& rows, const Dimension& columns, bool bias) {
    out.push_back({file + name + ".weight", model + name, {rows, columns}});
    if (bias) out.push_back({file + name + ".bias", model + name + "_bias", {rows}});
  };
  projection("q_proj", q, d, qkv_bias);
  projection("k_proj", kv, d, qkv_bias);
  projection("v_proj", kv, d, qkv_bias);
  projection("o_proj", d, q, option_of(mixer, "o_bias", false));
  const auto norm = option_of<std::string>(mixer, "qk_norm", "none");
  if (norm != "none") {
    out.push_back({file + "q_norm.weight", model + "q_norm", {norm == "head" ? c : q}});
    out.push_back({file + "k_norm.weight", model + "k_norm", {norm == "head" ? c : kv}});
  }
  if (option_of(mixer, "sinks", false)) out.push_back({file + "sinks", model + "sinks", {{"num_attention_heads", s.num_heads}}});
}

void add_latent_attention(Places& out, const ModelSpec& s, const BlockSpec& mixer, const std::string& file, const std::string& model) {
  const auto size = [&](const char* key) { return option_of<int64_t>(mixer, key, 0); };
  const int64_t qk = size("nope_dim") + size("rope_dim");
  const Dimension d{"hidden_size", s.d_model}, rq{"q_lora_rank", size("q_rank")}, rkv{"kv_lora_rank", size("kv_rank")},
      q{"num_attention_heads * (qk_nope_head_dim + qk_rope_head_dim)", s.num_heads * qk}, down{"kv_lora_rank + qk_rope_head_dim", size("kv_rank") + size("rope_dim")},
      up{"num_attention_heads * (qk_nope_head_dim + v_head_dim)", s.num_heads * (size("nope_dim") + size("v_dim"))},
      v{"num_attention_heads * v_head_dim", s.num_heads * size("v_dim")};
  const bool bias = option_of(mixer, "qkv_bias", false);
  if (rq.size > 0) {
    out.push_back({file + "q_a_proj.weight", model + "q_a_proj", {rq, d}});
    if (bias) out.push_back({file + "q_a_proj.bias", model + "q_a_proj_bias", {rq}});
    out.push_back({file + "q_a_layernorm.weight", model + "q_a_norm", {rq}});
    out.push_back({file + "q_b_proj.weight", model + "q_b_proj", {q, rq}});
  } else {
    out.push_back({file + "q_proj.weight", model + "q_b_proj", {q, d}});
  }
  out.push_back({file + "kv_a_proj_with_mqa.weight", model + "kv_a_proj", {down, d}});
  if (bias) out.push_back({file + "kv_a_proj_with_mqa.bias", model + "kv_a_proj_bias", {down}});
  out.push_back({file + "kv_a_layernorm.weight", model + "kv_a_norm", {rkv}});
  out.push_back({file + "kv_b_proj.weight", model + "kv_b_proj", {up, rkv}});
  out.push_back({file + "o_proj.weight", model + "o_proj", {d, v}});
  if (option_of(mixer, "o_bias", false)) out.push_back({file + "o_proj.bias", model + "o_proj_bias", {d}});
}

void add_linear_attention(Places& out, const ModelSpec& s, const std::string& file, const std::string& model) {
  const Dimension d{"hidden_size", s.d_model}, q{"num_attention_heads * head_dim", s.num_heads * s.head_dim};
  out.push_back({file + "norm.weight", model + "norm", {q}});
  out.push_back({file + "qkv_proj.weight", model + "qkv_proj", {{"3 * num_attention_heads * head_dim", 3 * q.size}, d}});
  out.push_back({file + "output_gate.weight", model + "output_gate", {q, d}});
  out.push_back({file + "out_proj.weight", model + "out_proj", {d, q}});
}

void add_state_space(Places& out, const ModelSpec& s, const BlockSpec& mixer, const std::string& file, const std::string& model) {
  const int64_t given = option_of<int64_t>(mixer, "dt_rank", 0), n_state = option_of<int64_t>(mixer, "d_state", 16);
  const Dimension d{"hidden_size", s.d_model}, e{"mamba_expand * hidden_size", option_of<int64_t>(mixer, "expand", 2) * s.d_model}, n{"mamba_d_state", n_state},
      r{"mamba_dt_rank", given > 0 ? given : (s.d_model + 15) / 16}, taps{"mamba_d_conv", option_of<int64_t>(mixer, "d_conv", 4)};
  const auto add = [&](const char* stored, const char* parameter, std::vector<Dimension> shape) { out.push_back({file + stored, model + parameter, std::move(shape)}); };
  const bool bias = option_of(mixer, "proj_bias", false);
  add("A_log", "a_log", {e, n});
  add("D", "d", {e});
  add("conv1d.weight", "conv", {e, {"", 1}, taps});
  if (option_of(mixer, "conv_bias", true)) add("conv1d.bias", "conv_bias", {e});
  add("dt_proj.weight", "dt_proj", {e, r});
  add("dt_proj.bias", "dt_bias", {e});
  add("in_proj.weight", "in_proj", {{"2 * mamba_expand * hidden_size", 2 * e.size}, d});
  if (bias) add("in_proj.bias", "in_proj_bias", {{"2 * mamba_expand * hidden_size", 2 * e.size}});
  add("out_proj.weight", "out_proj", {d, e});
  if (bias) add("out_proj.bias", "out_proj_bias", {d});
  add("x_proj.weight", "x_proj", {{"mamba_dt_rank + 2 * mamba_d_state", r.size + 2 * n_state}, e});
  if (!option_of(mixer, "inner_norm", true)) return;
  add("dt_layernorm.weight", "dt_norm", {r});
  add("b_layernorm.weight", "b_norm", {n});
  add("c_layernorm.weight", "c_norm", {n});
}

}  // namespace

void add_attention_places(Places& out, const ModelSpec& s, int64_t layer, const HfNames& names) {
  const auto plan = s.layer(layer);
  const auto file = names.in_layer(layer), model = fmt::format("layers.{}.", layer);
  if (plan.mixer) {
    add_norm_places(out, file + names.attn_norm, model + "attn_norm", s);
    if (plan.mixer->kind == "attention") add_plain_attention(out, s, *plan.mixer, file + names.attn, model + "attn.");
    else if (plan.mixer->kind == "lightning") add_linear_attention(out, s, file + names.attn, model + "attn.");
    else if (plan.mixer->kind == "mamba") add_state_space(out, s, *plan.mixer, file + names.state_space, model + "attn.");
    else if (plan.mixer->kind == "mla") add_latent_attention(out, s, *plan.mixer, file + names.attn, model + "attn.");
  }
  if (plan.d_ff || plan.moe) add_norm_places(out, file + names.ffn_norm, model + "ffn_norm", s);
}

void add_gated_expert(Places& out, const GatedNames& names, const std::string& bank, int64_t index, const Dimension& width, int64_t d_model) {
  const Dimension d{"hidden_size", d_model};
  out.push_back({names.gate, bank + ".w_in", {width, d}, index, 0, width.size});
  out.push_back({names.up, bank + ".w_in", {width, d}, index, width.size, width.size});
  out.push_back({names.down, bank + ".w_out", {d, width}, index});
}

void add_dense_places(Places& out, const ModelSpec& s, int64_t layer, const std::string& prefix, const GatedNames& matrices) {
  const auto plan = s.layer(layer);
  if (option_of(plan.ffn, "bias", false)) {
    const auto bank = fmt::format("layers.{}.ffn.", layer);
    const Dimension width{"intermediate_size", *plan.d_ff};
    out.push_back({prefix + matrices.gate + ".bias", bank + "b_in", {width}, 0, 0, width.size});
    out.push_back({prefix + matrices.up + ".bias", bank + "b_in", {width}, 0, width.size, width.size});
    out.push_back({prefix + matrices.down + ".bias", bank + "b_out", {{"hidden_size", s.d_model}}, 0});
  }
  add_gated_expert(out, gated_names(prefix, matrices), fmt::format("layers.{}.ffn", layer), 0, {"intermediate_size", *s.layer(layer).d_ff}, s.d_model);
}

void add_separate_experts(Places& out, const ModelSpec& s, int64_t layer, const std::string& prefix, const GatedNames& matrices, const ExpertKeys& keys) {
  const auto moe = *s.layer(layer).moe;
  for (int64_t e = 0; e < moe.num_experts; ++e)
    add_gated_expert(out, gated_names(fmt::format(fmt::runtime(prefix), e), matrices), fmt::format("layers.{}.ffn.experts", layer), e,
                     {keys.width, moe.d_expert}, s.d_model);
}

void add_stacked_experts(Places& out, const ModelSpec& s, int64_t layer, const std::string& gate_up, const std::string& down, const ExpertKeys& keys) {
  const auto moe = *s.layer(layer).moe;
  const auto bank = fmt::format("layers.{}.ffn.experts", layer);
  const Dimension experts{keys.count, moe.num_experts}, d{"hidden_size", s.d_model};
  out.push_back({gate_up, bank + ".w_in", {experts, {"2 * " + keys.width, 2 * moe.d_expert}, d}});
  out.push_back({down, bank + ".w_out", {experts, d, {keys.width, moe.d_expert}}});
}

void add_router_place(Places& out, const ModelSpec& s, int64_t layer, const std::string& stored, const ExpertKeys& keys) {
  out.push_back({stored, fmt::format("layers.{}.ffn.gate.score.weight", layer), {{keys.count, s.layer(layer).moe->num_experts}, {"hidden_size", s.d_model}}});
}

void add_shared_places(Places& out, const ModelSpec& s, int64_t layer, const std::string& prefix, const GatedNames& matrices) {
  const auto moe = *s.layer(layer).moe;
  if (moe.num_shared_experts == 0) return;
  add_gated_expert(out, gated_names(prefix, matrices), fmt::format("layers.{}.ffn.shared_experts", layer), 0,
                   {"width of the shared experts", moe.d_shared > 0 ? moe.d_shared : moe.num_shared_experts * moe.d_expert}, s.d_model);
}

bool is_known_leftover(const std::string& stored, const ModelSpec& spec) {
  return stored.ends_with(".rotary_emb.inv_freq") || (spec.tie_embeddings && stored == "lm_head.weight");
}

}  // namespace switchyard
