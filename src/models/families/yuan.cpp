// Yuan 2.0-M32 (arXiv:2405.17976): queries and keys read a filter over neighbouring tokens (Yuan 2.0, arXiv:2311.15786), routers attend over the
// experts of a token. Files without experts are those of the dense Yuan 2.0, whose network has the names of gate and up the other way round.
//
// Of the joint product [q_proj; k_proj] f, head h takes 2c rows in one piece and has its query in the first c of them and its key in the
// rest: with an even number of heads both come from q_proj for the first half of the heads. What turns is the first hidden_size / heads of
// a head. The norm of the filter adds 1e-6 whatever rms_norm_eps says.
//
// Departs from its code: angles are float32 here, bfloat16 there. Its reset_attention_mask hides what is in front of an end-of-document token
// inside a text; here documents are segments of the batch.
#include "models/hf_decoder.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

constexpr double kTheta = 10000, kFilterEps = 1e-6;  // no keys say them

struct Yuan final : HfDecoder {
  using HfDecoder::HfDecoder;

  ModelSpec read(HfConfig& config) const override {
    ModelSpec s = read_common_keys(config, {.max_positions = config.size("model_max_length", 8192), .norm_eps = 1e-6, .rope_theta = kTheta});
    s.mixer = "lf_attention";
    s.tie_embeddings = config.flag("tie_word_embeddings", true);
    read_heads(config, s);
    if (s.rope_theta != kTheta || s.rope.scaling != "none")
      fail(ErrorKind::unsupported, "config.json: rope_theta = {}, scaling = {}: this family has {} and none whatever the keys say", s.rope_theta,
           s.rope.scaling, kTheta);
    if (s.norm_eps != kFilterEps)
      fail(ErrorKind::unsupported, "config.json: rms_norm_eps = {}, expected {} as in the norm of the filter", s.norm_eps, kFilterEps);
    config.only("causal_mask", true, "attention that looks ahead is not supported");
    config.only("use_shareqk", false, "one matrix for queries and keys is not supported");
    for (const char* bookkeeping : {"_from_model_config", "dropout", "eod_token", "eod_token_id", "mask_token_id", "model_max_length", "reset_attention_mask",
                                    "reset_position_ids", "sep_token", "use_flash_attention", "use_loss_mask"})
      config.harmless(bookkeeping);
    s.ffn = gated_kind(config);
    s.d_ff = config.size("intermediate_size", 8192);
    read_experts(config, s);
    return s;
  }

  void write(nlohmann::ordered_json& config, const ModelSpec& s) const override {
    for (const char* key : {"head_dim", "num_key_value_heads", "partial_rotary_factor"}) config.erase(key);
    config["rope_parameters"].erase("partial_rotary_factor");
    config["attention_projection_size"] = s.num_heads * s.head_dim;
    config["causal_mask"] = true;
    config["hidden_act"] = hidden_act_of(s.moe ? s.moe->experts : s.ffn);
    config["intermediate_size"] = s.d_ff;
    config["use_shareqk"] = false;
    nlohmann::ordered_json moe{{"ffn_hidden_size", s.d_ff}, {"gated_linear_unit", true}, {"moe_num_experts", 0}};
    if (s.moe) {
      const ConfigNode* weigh = s.moe->gate.options.find("weigh");
      moe = {{"ffn_hidden_size", s.moe->d_expert},
             {"gated_linear_unit", true},
             {"moe_num_experts", s.moe->num_experts},
             {"moe_top_k", top_k_of(s.moe->gate)},
             {"norm_topk_prob", !(weigh && weigh->string() && *weigh->string() == "raw")},
             {"router_type", "attn_router"}};
    }
    config["moe_config"] = moe;
  }

  void add_network(Places& out, const ModelSpec& s, int64_t layer, bool) const override {
    const auto plan = s.layer(layer);
    const auto file = fmt::format("model.layers.{}.", layer), model = fmt::format("layers.{}.", layer);
    add_attention(out, s, file + "self_attn.", model + "attn.");
    if (plan.d_ff) add_dense_places(out, s, layer, file + "mlp.", {"up_proj", "gate_proj", "down_proj"});
    if (plan.moe) add_experts(out, *plan.moe, s.d_model, file + "mlp.", model + "ffn.");
  }

 private:
  static void read_heads(HfConfig& config, ModelSpec& s) {
    if (s.num_kv_heads != s.num_heads)
      fail(ErrorKind::unsupported, "config.json: num_key_value_heads = {}, expected num_attention_heads = {}", s.num_kv_heads, s.num_heads);
    const int64_t projection = config.size("attention_projection_size", s.d_model);
    for (const auto& [key, size] : {std::pair{"attention_projection_size", projection}, {"hidden_size", s.d_model}})
      if (size % s.num_heads != 0) fail(ErrorKind::config, "config.json: num_attention_heads = {} does not divide {} = {}", s.num_heads, key, size);
    const int64_t turned = s.d_model / s.num_heads;
    s.head_dim = projection / s.num_heads;
    if (turned > s.head_dim)
      fail(ErrorKind::unsupported, "config.json: attention_projection_size = {} is less than hidden_size = {}, whose share of a head turns", projection,
           s.d_model);
    s.rope.dims = turned < s.head_dim ? turned : 0;
  }

  static void read_experts(HfConfig& config, ModelSpec& s) {
    HfConfig moe = config.nested("moe_config");
    const int64_t experts = moe.integer("moe_num_experts", 0), k = moe.size("moe_top_k", 2);
    const int64_t width = moe.size("ffn_hidden_size", s.d_ff);
    const bool renormalise = moe.flag("norm_topk_prob", true);
    moe.only("gated_linear_unit", true, "experts of two matrices are not supported");
    moe.only("router_type", "attn_router", "it is what the published model has; others are not supported");
    moe.refuse_other_keys();
    if (experts == 0) return;
    if (k > experts) fail(ErrorKind::config, "config.json: moe_config.moe_top_k = {} exceeds moe_config.moe_num_experts = {}", k, experts);
    MoESpec& m = s.moe.emplace();
    m.num_experts = experts;
    m.d_expert = s.d_ff = width;
    m.experts = s.ffn;
    ConfigNode::Table gate{{"score", "attention"}, {"select", ConfigNode{{"kind", "top_k"}, {"k", k}}}, {"weigh", renormalise ? "renormalise" : "raw"}};
    if (k == 1 && renormalise) gate.emplace_back("allow_constant_weight", true);
    m.gate = {"chain", ConfigNode(std::move(gate))};
  }

  static void add_attention(Places& out, const ModelSpec& s, const std::string& file, const std::string& model) {
    const int64_t c = s.head_dim, heads = s.num_heads;
    const Dimension d{"hidden_size", s.d_model}, half{"hidden_size / 2", s.d_model / 2}, q{"attention_projection_size", heads * c}, taps{"", 2}, one{"", 1};
    for (int64_t piece = 0; piece < 2 * heads; ++piece)  // query and key of head 0, of head 1, ...
      out.push_back({file + (piece < heads ? "q_proj.weight" : "k_proj.weight"),
                     model + (piece % 2 == 0 ? "q_proj" : "k_proj"),
                     {q, d},
                     -1,
                     piece / 2 * c,
                     c,
                     {.row = piece % heads * c, .rows = c}});
    out.push_back({file + "v_proj.weight", model + "v_proj", {q, d}});
    out.push_back({file + "o_proj.weight", model + "o_proj", {d, q}});
    for (const int64_t tap : {0, 1}) {  // the token before, the token itself
      out.push_back({file + "lf_gate.conv1.weight", model + "conv1", {half, d, taps, one}, tap, 0, -1, {.column = tap, .column_step = 2, .flat = true}});
      out.push_back({file + "lf_gate.conv2.weight", model + "conv2", {d, half, taps, one}, tap, 0, -1, {.column = tap, .column_step = 2, .flat = true}});
    }
    out.push_back({file + "lf_gate.conv1.bias", model + "conv1_bias", {half}});
    out.push_back({file + "lf_gate.conv2.bias", model + "conv2_bias", {d}});
    out.push_back({file + "lf_gate.output_layernorm.weight", model + "filter_norm", {d}});
  }

  static void add_experts(Places& out, const MoESpec& m, int64_t d_model, const std::string& file, const std::string& model) {
    const Dimension n{"moe_num_experts", m.num_experts}, d{"hidden_size", d_model}, f{"ffn_hidden_size", m.d_expert},
        both{"2 * ffn_hidden_size", 2 * m.d_expert};
    int64_t row = 0;
    for (const char* part : {"query", "key", "value"}) {
      out.push_back({fmt::format("{}gate.{}.weight", file, part), model + "gate.score.weight", {n, d}, -1, row, n.size});
      row += n.size;
    }
    for (int64_t e = 0; e < n.size; ++e) {
      out.push_back({fmt::format("{}experts.{}.w1.weight", file, e), model + "experts.w_in", {both, d}, e});
      out.push_back({fmt::format("{}experts.{}.w2.weight", file, e), model + "experts.w_out", {d, f}, e});
    }
  }
};

}  // namespace

FamilyEntry family_yuan() {
  return {"yuan", "arXiv:2405.17976", "sparse decoder: a filter in front of queries and keys, routers that attend over experts",
          std::make_shared<Yuan>("yuan", "YuanForCausalLM")};
}

}  // namespace switchyard
