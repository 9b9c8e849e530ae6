// DBRX: sixteen experts of which four work, weights normalised by an L_p norm (p = 1), LayerNorm without biases, q, k and v in one
// matrix and clipped. The matrices of all experts lie in one tensor each, [E f, d]; the last one is stored as it is multiplied from the
// left: h w2.
//
// Departs from transformers 5.12, whose code lacks the transposes that these tensors need (it runs only when d = f).
#include "models/hf_decoder.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

struct Dbrx final : Family {
  ModelSpec read_config(const ConfigNode& node) const override {
    HfConfig config(node);
    ModelSpec s;
    s.vocab_size = config.size("vocab_size");
    s.d_model = config.size("d_model", 2048);
    s.num_layers = config.size("n_layers", 24);
    s.num_heads = config.size("n_heads", 16);
    s.max_positions = config.size("max_seq_len", 2048);
    s.init_std = config.number("initializer_range", 0.02);
    s.tie_embeddings = config.flag("tie_word_embeddings", false);
    s.norm = "layer_no_bias";
    s.head_dim = s.d_model / s.num_heads;
    read_attention(config, s);
    read_experts(config, s);
    config.only("quantization_config", ConfigNode{}, "quantised weights are not supported");
    config.refuse_other_keys();
    return s;
  }

  nlohmann::ordered_json write_config(const ModelSpec& spec) const override {
    const ModelSpec s = canonical(spec);
    const MoESpec m = s.moe.value_or(MoESpec{});
    const double clip = option_of(s.mixer, "clip_qkv", 0.0);
    nlohmann::ordered_json config{{"architectures", {"DbrxForCausalLM"}}, {"model_type", "dbrx"}};
    config["attn_config"] = {{"attn_pdrop", 0.0}, {"clip_qkv", clip > 0 ? nlohmann::ordered_json(clip) : nlohmann::ordered_json(nullptr)}, {"kv_n_heads", s.num_kv_heads},
                             {"rope_theta", s.rope_theta}};
    config["d_model"] = s.d_model;
    config["ffn_config"] = {{"ffn_act_fn", {{"name", hidden_act_of(m.experts)}}}, {"ffn_hidden_size", m.d_expert}, {"moe_jitter_eps", option_of(m.gate, "jitter_eps", 0.0)},
                            {"moe_loss_weight", pooled_loss_weight(m)}, {"moe_normalize_expert_weights", renormalises(m.gate) ? nlohmann::ordered_json(1.0) : nlohmann::ordered_json(nullptr)},
                            {"moe_num_experts", m.num_experts}, {"moe_top_k", top_k_of(m.gate)}};
    config["initializer_range"] = s.init_std;
    config["max_seq_len"] = s.max_positions;
    config["n_heads"] = s.num_heads;
    config["n_layers"] = s.num_layers;
    config["num_key_value_heads"] = s.num_kv_heads;
    config["rope_parameters"] = {{"rope_theta", s.rope_theta}, {"rope_type", "default"}};
    config["tie_word_embeddings"] = s.tie_embeddings;
    config["use_cache"] = true;
    config["vocab_size"] = s.vocab_size;
    return config;
  }

  std::vector<Places> layouts(const LanguageModel& model) const override {
    const ModelSpec& s = model.spec();
    Places out;
    add_outer_places(out, s, {.embed = "transformer.wte.weight", .norm = "transformer.norm_f"});
    for (int64_t i = 0; i < s.num_layers; ++i) add_layer(out, s, i);
    return {out};
  }

  bool ignores(const std::string& stored, const ModelSpec& spec) const override { return is_known_leftover(stored, spec); }

 private:
  static void read_attention(HfConfig& config, ModelSpec& s) {
    HfConfig a = config.nested("attn_config");
    s.num_kv_heads = a.size("kv_n_heads", config.size("num_key_value_heads", 1));
    (void)config.integer("num_key_value_heads", 0);  // says the same
    s.mixer = {"attention", {{"clip_qkv", a.number("clip_qkv", 0.0)}}};
    const double theta = a.number("rope_theta", 10000.0);
    a.harmless("model_type");
    a.refuse_other_keys();
    config.read_rope(s, theta);
  }

  static void read_experts(HfConfig& config, ModelSpec& s) {
    HfConfig f = config.nested("ffn_config");
    MoESpec& m = s.moe.emplace();
    m.d_expert = s.d_ff = f.size("ffn_hidden_size", 3584);
    m.num_experts = f.size("moe_num_experts", 4);
    const double p = f.number("moe_normalize_expert_weights", f.mentions("moe_normalize_expert_weights") ? 0.0 : 1.0);
    if (p != 0 && p != 1) fail(ErrorKind::unsupported, "config.json: ffn_config.moe_normalize_expert_weights = {}: weights are normalised with p = 1, or not at all (null)", p);
    m.gate = softmax_top_k(f.size("moe_top_k", 1), p == 1, f.number("moe_jitter_eps", 0.0));
    HfConfig act = f.nested("ffn_act_fn");
    m.experts = gated_kind(act, "silu", "name");
    act.refuse_other_keys();
    f.harmless("model_type");
    f.harmless("hidden_size");
    f.only("uniform_expert_assignment", false, "a router that ignores its tokens is not supported");
    const double weight = f.number("moe_loss_weight", 0.01);
    f.refuse_other_keys();
    set_pooled_loss(m, config.number("router_aux_loss_coef", weight));
  }

  static void add_layer(Places& out, const ModelSpec& s, int64_t i) {
    const auto file = fmt::format("transformer.blocks.{}.", i), attn = file + "norm_attn_norm.", model = fmt::format("layers.{}.", i);
    const int64_t q = s.num_heads * s.head_dim, kv = s.num_kv_heads * s.head_dim;
    const Dimension d{"d_model", s.d_model}, all{"(n_heads + 2 kv_n_heads) * head_dim", q + 2 * kv};
    add_norm_places(out, attn + "norm_1", model + "attn_norm", s);
    const auto joint = attn + "attn.Wqkv.weight";
    out.push_back({joint, model + "attn.q_proj", {all, d}, -1, 0, -1, {.row = 0, .rows = q}});
    out.push_back({joint, model + "attn.k_proj", {all, d}, -1, 0, -1, {.row = q, .rows = kv}});
    out.push_back({joint, model + "attn.v_proj", {all, d}, -1, 0, -1, {.row = q + kv, .rows = kv}});
    out.push_back({attn + "attn.out_proj.weight", model + "attn.o_proj", {d, {"n_heads * head_dim", q}}});
    add_norm_places(out, attn + "norm_2", model + "ffn_norm", s);
    add_router_place(out, s, i, file + "ffn.router.layer.weight");
    const MoESpec m = *s.layer(i).moe;
    const int64_t f = m.d_expert;
    const Dimension rows{"moe_num_experts * ffn_hidden_size", m.num_experts * f};
    const auto experts = file + "ffn.experts.mlp.", bank = model + "ffn.experts.";
    for (int64_t e = 0; e < m.num_experts; ++e) {
      out.push_back({experts + "w1", bank + "w_in", {rows, d}, e, 0, f, {.row = e * f, .rows = f}});
      out.push_back({experts + "v1", bank + "w_in", {rows, d}, e, f, f, {.row = e * f, .rows = f}});
      out.push_back({experts + "w2", bank + "w_out", {rows, d}, e, 0, -1, {.row = e * f, .rows = f, .transposed = true}});
    }
  }
};

}  // namespace

FamilyEntry family_dbrx() { return {"dbrx", "", "sparse decoder: LayerNorm, clipped q, k and v, experts side by side in three tensors", std::make_shared<Dbrx>()}; }

}  // namespace switchyard
