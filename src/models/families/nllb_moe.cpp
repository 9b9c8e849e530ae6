// NLLB-MoE (arXiv:2207.04672): encoder and decoder with LayerNorm, biases everywhere, sinusoidal positions and two experts per token in
// every few layers. The weights of the two sum to 1 before or after tokens are dropped; outside training the outputs of experts
// count 1 - moe_token_dropout.
#include "models/hf_encoder_decoder.h"

#include "switchyard/error.h"

#include <cmath>

namespace switchyard {
namespace {

struct NllbMoe final : HfEncoderDecoder {
  using HfEncoderDecoder::HfEncoderDecoder;

  ModelSpec read(HfConfig& config) const override {
    ModelSpec s;
    s.vocab_size = config.size("vocab_size");
    s.d_model = config.size("d_model", 1024);
    s.num_heads = s.num_kv_heads = common_size(config, "encoder_attention_heads", "decoder_attention_heads", 16);
    if (s.d_model % s.num_heads != 0) fail(ErrorKind::config, "config.json: encoder_attention_heads = {} does not divide d_model = {}", s.num_heads, s.d_model);
    s.head_dim = s.d_model / s.num_heads;
    s.d_ff = common_size(config, "encoder_ffn_dim", "decoder_ffn_dim", 4096);
    s.max_positions = config.size("max_position_embeddings", 1024);
    s.positions = "sinusoidal";
    s.padding_id = config.integer("pad_token_id", 1);
    s.norm = "layer";
    if (config.flag("scale_embedding", true)) s.embed_scale = std::sqrt(static_cast<double>(s.d_model));
    s.init_std = config.number("init_std", 0.02);
    s.tie_embeddings = config.flag("tie_word_embeddings", true);
    s.mixer = {"attention", {{"qkv_bias", true}, {"o_bias", true}}};
    s.ffn = plain_kind(config, "activation_function", true);
    read_experts(config, s);
    for (const char* key : {"dropout", "activation_dropout", "encoder_layerdrop", "decoder_layerdrop", "num_hidden_layers"}) config.harmless(key);
    config.only("router_dtype", "float32", "routers compute in float32");
    config.only("router_ignore_padding_tokens", false, "padding takes no place among the tokens of an expert");
    const int64_t encoder = config.size("encoder_layers", 12), decoder = config.size("decoder_layers", 12);
    set_stacks(s, every(encoder, config.integer("encoder_sparse_step", 4)), every(decoder, config.integer("decoder_sparse_step", 4)),
               {"cross_attention", {{"qkv_bias", true}, {"o_bias", true}}});
    return s;
  }

  void write(nlohmann::ordered_json& config, const ModelSpec& s) const override {
    const MoESpec m = s.moe.value_or(MoESpec{});
    const auto encoder = sparse_blocks(encoder_spec(s)), decoder = sparse_blocks(s);
    config["activation_function"] = plain_name(s);
    config["batch_prioritized_routing"] = m.capacity.priority.kind == "score";
    config["d_model"] = s.d_model;
    config["encoder_layers"] = encoder.size();
    config["decoder_layers"] = decoder.size();
    config["encoder_sparse_step"] = step_of(encoder);
    config["decoder_sparse_step"] = step_of(decoder);
    config["encoder_attention_heads"] = config["decoder_attention_heads"] = s.num_heads;
    config["encoder_ffn_dim"] = config["decoder_ffn_dim"] = s.d_ff;
    config["expert_capacity"] = std::max<int64_t>(1, m.capacity.rows);
    config["init_std"] = s.init_std;
    config["max_position_embeddings"] = s.max_positions;
    // Division and product by the number of experts may miss the last bit of what a file had.
    config["moe_eval_capacity_token_fraction"] = std::round(m.capacity.eval_factor / static_cast<double>(m.num_experts) * 1e12) / 1e12;
    config["moe_token_dropout"] = masked_share(m.gate);
    config["normalize_router_prob_before_dropping"] = !m.capacity.renorm_after_drop;
    config["num_experts"] = m.num_experts;
    config["pad_token_id"] = s.padding_id;
    config["router_aux_loss_coef"] = pooled_loss_weight(m);
    config["router_bias"] = has_router_bias(m.gate);
    config["router_dtype"] = "float32";
    config["scale_embedding"] = s.embed_scale != 1;
    config["second_expert_policy"] = "all";
    config["tie_word_embeddings"] = s.tie_embeddings;
    config["use_cache"] = true;
    config["vocab_size"] = s.vocab_size;
  }

  void add_outer(Places& out, const ModelSpec& s) const override {
    const std::vector<Dimension> vocabulary{{"vocab_size", s.vocab_size}, {"d_model", s.d_model}};
    out.push_back({"model.shared.weight", "embed", vocabulary});
    if (!s.tie_embeddings) out.push_back({"lm_head.weight", "head", vocabulary});
  }

  void add_stack(Places& out, const HfStack& stack) const override { add_norm_places(out, "model." + stack.file + ".layer_norm", stack.model + "norm", stack.spec); }

  void add_layer(Places& out, const HfStack& stack, int64_t layer) const override {
    const ModelSpec& s = stack.spec;
    const auto plan = s.layer(layer);
    const auto file = fmt::format("model.{}.layers.{}.", stack.file, block_of_layer(s, layer)), model = fmt::format("{}layers.{}.", stack.model, layer);
    if (plan.mixer) {
      const std::string name = plan.mixer->kind == "cross_attention" ? "cross_attention" : "self_attn";
      add_norm_places(out, file + name + "_layer_norm", model + "attn_norm", s);
      add_projections(out, s, file + name + ".", {"q_proj", "k_proj", "v_proj", "out_proj"}, model + "attn.", true);
    }
    const std::string bank = model + "ffn";
    if (plan.d_ff || plan.moe) add_norm_places(out, file + "ff_layer_norm", model + "ffn_norm", s);
    if (plan.d_ff) add_plain_expert(out, file + "ffn.", {"fc1", "fc2"}, bank, 0, {"ffn_dim", *plan.d_ff}, s.d_model, true);
    if (!plan.moe) return;
    add_classifier(out, file + "ffn.router.classifier.", bank + ".gate.score.", *plan.moe, s.d_model);
    for (int64_t e = 0; e < plan.moe->num_experts; ++e)
      add_plain_expert(out, fmt::format("{}ffn.experts.expert_{}.", file, e), {"fc1", "fc2"}, bank + ".experts", e, {"ffn_dim", plan.moe->d_expert}, s.d_model, true);
  }

  // Copies of what is shared, and the sinusoids themselves.
  bool ignores(const std::string& stored, const ModelSpec& s) const override {
    for (const char* stack : {"model.encoder.", "model.decoder."})
      for (const char* name : {"embed_tokens.weight", "embed_positions.weights"})
        if (stored == std::string(stack) + name) return true;
    return s.tie_embeddings && stored == "lm_head.weight";
  }

 private:
  // Layer i has experts when (i + 1) % step = 0; never with 0.
  static std::vector<bool> every(int64_t layers, int64_t step) {
    std::vector<bool> out;
    for (int64_t i = 0; i < layers; ++i) out.push_back(step > 0 && (i + 1) % step == 0);
    return out;
  }

  static int64_t step_of(const std::vector<bool>& sparse) {
    const auto layers = static_cast<int64_t>(sparse.size());
    for (int64_t step = 0; step <= layers; ++step)
      if (every(layers, step) == sparse) return step;
    return 0;  // no step says it: cannot_state will find the difference
  }

  // Both stacks have the same number, by the key of either.
  static int64_t common_size(HfConfig& config, const char* of_encoder, const char* of_decoder, int64_t absent) {
    const int64_t encoder = config.size(of_encoder, absent), decoder = config.size(of_decoder, absent);
    if (encoder != decoder) fail(ErrorKind::unsupported, "config.json: {} = {}, but {} = {}; stacks of different widths are not supported", of_encoder, encoder, of_decoder, decoder);
    return encoder;
  }

  static void read_experts(HfConfig& config, ModelSpec& s) {
    MoESpec& m = s.moe.emplace();
    m.num_experts = config.size("num_experts", 128);
    m.d_expert = s.d_ff;
    m.experts = s.ffn;
    const double masked = config.number("moe_token_dropout", 0.2);
    m.gate = {"chain", {{"select", {{"kind", "top_k"}, {"k", 2}}}, {"weigh", "renormalise"}}};
    if (masked > 0) m.gate.options.table()->emplace_back("keep", ConfigNode{{"kind", "masked_outputs"}, {"p", masked}});
    config.only("second_expert_policy", "all", "a second expert that is drawn at random is not supported");
    if (config.flag("router_bias", false)) m.gate.options.table()->emplace_back("score", kScoreWithBias);
    m.capacity.rows = config.size("expert_capacity", 64);
    m.capacity.counts_k = false;
    const double fraction = config.number("moe_eval_capacity_token_fraction", 1.0);
    if (fraction > 0) m.capacity.eval_factor = fraction * static_cast<double>(m.num_experts);
    else m.capacity.eval_rows = m.capacity.rows;
    m.capacity.renorm_after_drop = !config.flag("normalize_router_prob_before_dropping", false);
    if (config.flag("batch_prioritized_routing", false)) m.capacity.priority = "score", m.allow_lookahead = true;
    config.harmless("router_z_loss_coef");  // the layout has the key, the model no such loss
    set_pooled_loss(m, config.number("router_aux_loss_coef", 0.001));
  }

  static double masked_share(const BlockSpec& gate) {
    double p = 0;
    if (const ConfigNode* keep = gate.options.find("keep"))
      if (const ConfigNode* node = keep->find("p")) read_any(*node, "p", p);
    return p;
  }
};

}  // namespace

FamilyEntry family_nllb_moe() {
  return {"nllb-moe", "arXiv:2207.04672", "sparse encoder and decoder for translation: two experts per token, sinusoidal positions",
          std::make_shared<NllbMoe>("nllb-moe", "NllbMoeForConditionalGeneration")};
}

}  // namespace switchyard
