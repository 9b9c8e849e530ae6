// Grok-1: norms in front of and behind every branch, scores capped by 30 tanh(s / 30), multipliers of embedding, scores and logits, a softmax
// over all experts whose two best probabilities are not renormalised.
//
// The weights came as JAX pickles; ports hold them under three sets of names, the first of which is written. GELU has its tanh form where
// config.json does not say: jax.nn.gelu of the released code. A port that has the exact form differs by less than 5e-4 per activation.
// router_aux_loss_coef is the weight of the loss that Mixtral has in transformers; ports carry an older form of it.
#include "models/hf_decoder.h"
#include "switchyard/error.h"

#include <array>

namespace switchyard {
namespace {

// "{}" stands for the expert.
struct PortNames {
  HfNames outer;
  std::string norm_suffix, attn_post_norm, ffn_post_norm;
  std::array<const char*, 4> projections;  // query, key, value, output
  std::string router, experts;
  GatedNames matrices;
};

const std::vector<PortNames>& ports() {
  static const std::vector<PortNames> all = {
      {{.embed = "transformer.in_out_embed.weight",
        .norm = "transformer.rms_norm",
        .layer = "transformer.decoder_layer.{}.",
        .attn_norm = "rms_norm",
        .ffn_norm = "rms_norm_2",
        .attn = "multi_head_attention."},
       ".weight",
       "rms_norm_1",
       "rms_norm_3",
       {"query", "key", "value", "linear"},
       "router.weight",
       "moe.{}.",
       {"linear", "linear_v", "linear_1"}},
      {{.attn_norm = "pre_attn_norm", .ffn_norm = "pre_moe_norm", .attn = "attn."},
       ".scale",
       "post_attn_norm",
       "post_moe_norm",
       {"q_proj", "k_proj", "v_proj", "o_proj"},
       "moe_block.gate.weight",
       "moe_block.experts.{}.",
       {"linear", "linear_v", "linear_1"}},
      {{.attn_norm = "pre_attn_norm", .ffn_norm = "pre_moe_norm", .attn = "self_attn."},
       ".weight",
       "post_attn_norm",
       "post_moe_norm",
       {"q_proj", "k_proj", "v_proj", "o_proj"},
       "block_sparse_moe.gate.weight",
       "block_sparse_moe.experts.{}.",
       kMixtralNames},
  };
  return all;
}

struct Grok final : HfDecoder {
  using HfDecoder::HfDecoder;

  ModelSpec read(HfConfig& config) const override {
    ModelSpec s = read_common_keys(config, {.max_positions = 8192, .norm_eps = 1e-5, .rope_theta = 10000});
    s.tie_embeddings = config.flag("tie_word_embeddings", true);
    s.sandwich_norm = true;
    // Defaults of the ports disagree: the file has to say.
    s.embed_scale = config.number("embedding_multiplier_scale");
    s.logit_scale = config.number("output_multiplier_scale");
    s.mixer = {"attention", {{"scale", config.number("attn_output_multiplier")}, {"logit_cap", config.number("max_attn_value", 30.0)}}};
    MoESpec& m = s.moe.emplace();
    m.d_expert = s.d_ff = config.size("intermediate_size", 32768);
    m.num_experts = config.size("num_experts", config.size("num_local_experts", 8));
    (void)config.integer("num_local_experts", 0);  // says the same
    const int64_t k = config.size("num_experts_per_tok", 2);
    if (k > m.num_experts) fail(ErrorKind::config, "config.json: num_experts_per_tok = {} exceeds num_experts = {}", k, m.num_experts);
    m.gate = softmax_top_k(k, false);
    m.experts = gated_kind(config, "gelu_pytorch_tanh");
    set_pooled_loss(m, config.number("router_aux_loss_coef", 0.001));
    return s;
  }

  void write(nlohmann::ordered_json& config, const ModelSpec& s) const override {
    const MoESpec m = s.moe.value_or(MoESpec{});
    config["attn_output_multiplier"] = option_of(s.mixer, "scale", 0.0);
    config["embedding_multiplier_scale"] = s.embed_scale;
    config["hidden_act"] = hidden_act_of(m.experts);
    config["intermediate_size"] = m.d_expert;
    config["max_attn_value"] = option_of(s.mixer, "logit_cap", 0.0);
    config["num_experts"] = m.num_experts;
    config["num_experts_per_tok"] = top_k_of(m.gate);
    config["output_multiplier_scale"] = s.logit_scale;
    config["output_router_logits"] = false;
    config["router_aux_loss_coef"] = pooled_loss_weight(m);
  }

  std::vector<Places> layouts(const LanguageModel& model) const override {
    const ModelSpec& s = model.spec();
    std::vector<Places> out;
    for (const PortNames& names : ports()) {
      Places& places = out.emplace_back();
      add_outer(places, s, names);
      for (int64_t i = 0; i < s.num_layers; ++i) add_layer(places, s, i, names);
    }
    return out;
  }

  void add_network(Places&, const ModelSpec&, int64_t, bool) const override {}  // layouts() has it all

 private:
  static void add_outer(Places& out, const ModelSpec& s, const PortNames& names) {
    const Dimension v{"vocab_size", s.vocab_size}, d{"hidden_size", s.d_model};
    out.push_back({names.outer.embed, "embed", {v, d}});
    out.push_back({names.outer.norm + names.norm_suffix, "norm", {d}});
    if (!s.tie_embeddings) out.push_back({"lm_head.weight", "head", {v, d}});
  }

  static void add_layer(Places& out, const ModelSpec& s, int64_t layer, const PortNames& names) {
    const auto file = names.outer.in_layer(layer), model = fmt::format("layers.{}.", layer);
    const Dimension d{"hidden_size", s.d_model}, q{"num_attention_heads * head_dim", s.num_heads * s.head_dim},
        kv{"num_key_value_heads * head_dim", s.num_kv_heads * s.head_dim};
    const auto norm = [&](const std::string& stored, const char* parameter) { out.push_back({file + stored + names.norm_suffix, model + parameter, {d}}); };
    norm(names.outer.attn_norm, "attn_norm");
    norm(names.attn_post_norm, "attn_post_norm");
    norm(names.outer.ffn_norm, "ffn_norm");
    norm(names.ffn_post_norm, "ffn_post_norm");
    const auto projection = [&](size_t i, const char* parameter, const Dimension& rows, const Dimension& columns) {
      out.push_back({fmt::format("{}{}{}.weight", file, names.outer.attn, names.projections[i]), model + parameter, {rows, columns}});
    };
    projection(0, "attn.q_proj", q, d);
    projection(1, "attn.k_proj", kv, d);
    projection(2, "attn.v_proj", kv, d);
    projection(3, "attn.o_proj", d, q);
    add_router_place(out, s, layer, file + names.router);
    add_separate_experts(out, s, layer, file + names.experts, names.matrices, {"num_experts", "intermediate_size"});
  }
};

}  // namespace

FamilyEntry family_grok_1() {
  return {"grok-1",
          "",
          "sparse decoder: capped scores, norms around every branch, multipliers",
          std::make_shared<Grok>("grok-1", "Grok1ModelForCausalLM"),
          1,
          {"Grok1ModelForCausalLM", "grok", "grok1"}};
}

}  // namespace switchyard
