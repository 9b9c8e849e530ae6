// JetMoE (arXiv:2404.07413): a mixture of attention heads and a mixture of networks in every layer, both with k of E experts, a softmax
// over the chosen logits and a bias behind the sum; the loss goes over the routers of both.
//
// Departs from transformers 5.12, which counts the routers of the attention twice in that loss.
#include "models/hf_decoder.h"

namespace switchyard {
namespace {

struct JetMoe final : HfDecoder {
  using HfDecoder::HfDecoder;

  ModelSpec read(HfConfig& config) const override {
    const int64_t channels = config.size("kv_channels", 128), kv_heads = config.size("num_key_value_heads", 16);
    const int64_t experts = config.size("num_local_experts", config.size("moe_num_experts", 8)), k = config.size("num_experts_per_tok", config.size("moe_top_k", 2));
    ModelSpec s;
    s.vocab_size = config.size("vocab_size");
    s.d_model = config.size("hidden_size");
    s.num_layers = config.size("num_hidden_layers", 12);
    s.num_heads = config.size("num_attention_heads", kv_heads * k);
    s.num_kv_heads = kv_heads;
    s.head_dim = channels;
    s.max_positions = config.size("max_position_embeddings", 4096);
    s.norm_eps = config.number("rms_norm_eps", 1e-6);
    config.read_rope(s, 10000);
    s.init_std = config.number("initializer_range", 0.01);
    s.tie_embeddings = config.flag("tie_word_embeddings", true);
    config.only("num_attention_heads", kv_heads * k, "it is num_key_value_heads * num_experts_per_tok");
    const BlockSpec gate = softmax_top_k(k, true);
    s.mixer = {"moa", ConfigNode{{"num_experts", experts}, {"gate", ConfigNode{{"kind", gate.kind}, {"k", k}, {"renormalise", true}}}, {"bias", true}}};
    MoESpec& m = s.moe.emplace();
    m.num_experts = experts;
    m.d_expert = s.d_ff = config.size("intermediate_size", config.size("ffn_hidden_size", 5632));
    m.gate = gate;
    m.experts = gated_kind(config, "silu", "activation_function");
    m.output_bias = true;
    set_pooled_loss(m, config.number("aux_loss_coef", 0.01));
    config.only("quantization_config", ConfigNode{}, "quantised weights are not supported");
    return s;
  }

  void write(nlohmann::ordered_json& config, const ModelSpec& s) const override {
    const MoESpec m = s.moe.value_or(MoESpec{});
    config.erase("head_dim");
    config["activation_function"] = hidden_act_of(m.experts);
    config["aux_loss_coef"] = pooled_loss_weight(m);
    config["intermediate_size"] = m.d_expert;
    config["kv_channels"] = s.head_dim;
    config["num_experts_per_tok"] = top_k_of(m.gate);
    config["num_local_experts"] = m.num_experts;
    config["output_router_logits"] = false;
  }

  void add_network(Places& out, const ModelSpec& s, int64_t layer, bool) const override {
    if (!s.layer(layer).moe) return;
    const auto file = fmt::format("model.layers.{}.", layer), attn = file + "self_attention.", experts = attn + "experts.", model = fmt::format("layers.{}.", layer);
    const int64_t width = s.num_kv_heads * s.head_dim;
    const Dimension e{"num_local_experts", s.layer(layer).moe->num_experts}, d{"hidden_size", s.d_model}, heads{"num_key_value_heads * kv_channels", width};
    out.push_back({experts + "bias", model + "attn.bias", {d}});
    out.push_back({experts + "input_linear.weight", model + "attn.q_proj", {e, heads, d}});
    out.push_back({experts + "output_linear.weight", model + "attn.o_proj", {e, d, heads}});
    out.push_back({experts + "router.layer.weight", model + "attn.gate.score.weight", {e, d}});
    out.push_back({attn + "kv_proj.weight", model + "attn.kv_proj", {{"2 * num_key_value_heads * kv_channels", 2 * width}, d}});
    out.push_back({file + "mlp.bias", model + "ffn.bias", {d}});
    add_router_place(out, s, layer, file + "mlp.router.layer.weight", kMixtralKeys);
    add_stacked_experts(out, s, layer, file + "mlp.input_linear.weight", file + "mlp.output_linear.weight", kMixtralKeys);
  }
};

}  // namespace

FamilyEntry family_jetmoe() {
  return {"jetmoe", "arXiv:2404.07413", "sparse decoder: mixtures of attention heads and of networks", std::make_shared<JetMoe>("jetmoe", "JetMoeForCausalLM")};
}

}  // namespace switchyard
