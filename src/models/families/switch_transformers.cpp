// Switch Transformer (arXiv:2101.03961): T5 (arXiv:1910.10683) with one expert per token in every few layers. RMSNorm, no biases, scores
// without 1/sqrt(c) but with a learned bias per distance. An expert takes `expert_capacity` tokens of a sequence in their order; a token
// beyond gives its own value times its probability.
#include "models/hf_encoder_decoder.h"

#include "switchyard/error.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace switchyard {
namespace {

struct SwitchTransformers final : HfEncoderDecoder {
  using HfEncoderDecoder::HfEncoderDecoder;

  ModelSpec read(HfConfig& config) const override {
    ModelSpec s;
    s.vocab_size = config.size("vocab_size");
    s.d_model = config.size("d_model", 768);
    s.num_heads = s.num_kv_heads = config.size("num_heads", 12);
    s.head_dim = config.size("d_kv", 64);
    s.d_ff = config.size("d_ff", 2048);
    s.norm_eps = config.number("layer_norm_epsilon", 1e-6);
    s.positions = first_layer_only(config) ? "relative_first" : "relative";
    s.relative_buckets = config.size("relative_attention_num_buckets", 32);
    s.relative_distance = config.size("relative_attention_max_distance", 128);
    s.max_positions = config.size("n_positions", 512);
    s.mixer = {"attention", {{"scale", 1.0}}};
    s.ffn = network_kind(config);
    s.tie_embeddings = config.flag("tie_word_embeddings", true);
    if (s.tie_embeddings) s.logit_scale = 1 / std::sqrt(static_cast<double>(s.d_model));
    read_experts(config, s);
    for (const char* key : {"dropout_rate", "classifier_dropout", "initializer_factor", "add_router_probs", "router_ignore_padding_tokens"}) config.harmless(key);
    config.only("router_dtype", "float32", "routers compute in float32");
    const int64_t layers = config.size("num_layers", 12), decoder_layers = config.size("num_decoder_layers", layers);
    set_stacks(s, every(layers, sparse_step(config, "encoder", layers)), every(decoder_layers, sparse_step(config, "decoder", decoder_layers)),
               {"cross_attention", {{"scale", 1.0}}});
    return s;
  }

  void write(nlohmann::ordered_json& config, const ModelSpec& s) const override {
    const MoESpec m = s.moe.value_or(MoESpec{});
    config["d_ff"] = s.d_ff;
    config["d_kv"] = s.head_dim;
    config["d_model"] = s.d_model;
    config["dense_act_fn"] = network_name(s);
    config["expert_capacity"] = std::max<int64_t>(1, m.capacity.rows);
    config["layer_norm_epsilon"] = s.norm_eps;
    config["n_positions"] = s.max_positions;
    config["num_experts"] = m.num_experts;
    config["num_heads"] = s.num_heads;
    config["relative_attention_in_first_layer_only"] = s.positions == "relative_first";
    config["relative_attention_max_distance"] = s.relative_distance;
    config["relative_attention_num_buckets"] = s.relative_buckets;
    config["router_bias"] = has_router_bias(m.gate);
    config["router_dtype"] = "float32";
    config["router_jitter_noise"] = jitter_of(m.gate);
    config["router_z_loss_coef"] = weight_of(m, "router_z");
    config["router_aux_loss_coef"] = weight_of(m, "sequence_balance");
    config["tie_word_embeddings"] = s.tie_embeddings;
    config["use_cache"] = true;
    config["vocab_size"] = s.vocab_size;
    write_stack(config, "encoder", "num_layers", sparse_blocks(encoder_spec(s)));
    write_stack(config, "decoder", "num_decoder_layers", sparse_blocks(s));
  }

  void add_outer(Places& out, const ModelSpec& s) const override {
    const std::vector<Dimension> vocabulary{{"vocab_size", s.vocab_size}, {"d_model", s.d_model}};
    out.push_back({"shared.weight", "embed", vocabulary});
    if (!s.tie_embeddings) out.push_back({"lm_head.weight", "head", vocabulary});
  }

  void add_stack(Places& out, const HfStack& stack) const override {
    const ModelSpec& s = stack.spec;
    out.push_back({stack.file + ".block.0.layer.0.SelfAttention.relative_attention_bias.weight", stack.model + "relative",
                   {{"relative_attention_num_buckets", s.relative_buckets}, {"num_heads", s.num_heads}}});
    add_norm_places(out, stack.file + ".final_layer_norm", stack.model + "norm", s);
  }

  void add_layer(Places& out, const HfStack& stack, int64_t layer) const override {
    const ModelSpec& s = stack.spec;
    const auto plan = s.layer(layer);
    const auto file = fmt::format("{}.block.{}.layer.", stack.file, block_of_layer(s, layer)), model = fmt::format("{}layers.{}.", stack.model, layer);
    if (plan.mixer) {
      const bool cross = plan.mixer->kind == "cross_attention";
      add_norm_places(out, file + (cross ? "1" : "0") + ".layer_norm", model + "attn_norm", s);
      add_projections(out, s, file + (cross ? "1.EncDecAttention." : "0.SelfAttention."), {"q", "k", "v", "o"}, model + "attn.", false);
    }
    const std::string network = file + (stack.decodes() ? "2." : "1."), bank = model + "ffn";
    if (plan.d_ff || plan.moe) add_norm_places(out, network + "layer_norm", model + "ffn_norm", s);
    const auto add_expert = [&](const std::string& at, const std::string& weights, int64_t index, int64_t width) {
      if (is_gated(s)) add_gated_expert(out, {at + "wi_0.weight", at + "wi_1.weight", at + "wo.weight"}, weights, index, {"d_ff", width}, s.d_model);
      else add_plain_expert(out, at, {"wi", "wo"}, weights, index, {"d_ff", width}, s.d_model, false);
    };
    if (plan.d_ff) add_expert(network + "mlp.", bank, 0, *plan.d_ff);
    if (!plan.moe) return;
    add_classifier(out, network + "mlp.router.classifier.", bank + ".gate.score.", *plan.moe, s.d_model);
    for (int64_t e = 0; e < plan.moe->num_experts; ++e) add_expert(fmt::format("{}mlp.experts.expert_{}.", network, e), bank + ".experts", e, plan.moe->d_expert);
  }

  // Copies of what is shared, and a table that old files have and nobody reads.
  bool ignores(const std::string& stored, const ModelSpec& s) const override {
    return stored == "encoder.embed_tokens.weight" || stored == "decoder.embed_tokens.weight" || (s.tie_embeddings && stored == "lm_head.weight") ||
           stored == "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight";
  }

 private:
  // Gated networks are T5 v1.1's (arXiv:2002.05202): "gated-gelu", which there is the tanh form, and their first matrix is the gate. T5
  // names them by feed_forward_proj, Switch by dense_act_fn; a name in T5's key must mean the same.
  static BlockSpec network_kind(HfConfig& config) {
    const auto named = [](const std::string& name) { return name == "gated-gelu" ? "geglu_tanh" : name == "gated-silu" ? "swiglu" : name == "gated-relu" ? "reglu" : ""; };
    const std::string of_t5 = config.text("feed_forward_proj", ""), gated = named(of_t5.empty() ? config.text("dense_act_fn", "relu") : of_t5);
    if (!of_t5.empty() && gated.empty()) config.only("dense_act_fn", of_t5, "feed_forward_proj names another network");
    const BlockSpec out = gated.empty() ? plain_kind(config, "dense_act_fn", false) : BlockSpec(gated);
    config.harmless("dense_act_fn");  // beside feed_forward_proj: the activation without the word "gated"
    config.only("is_gated_act", !gated.empty(), "the networks are named by feed_forward_proj or dense_act_fn, which say otherwise");
    return out;
  }

  static std::string network_name(const ModelSpec& s) {
    const auto& kind = (s.moe ? s.moe->experts : s.ffn).kind;
    return kind == "geglu_tanh" ? "gated-gelu" : kind == "swiglu" ? "gated-silu" : kind == "reglu" ? "gated-relu" : plain_name(s);
  }

  static bool is_gated(const ModelSpec& s) { return network_name(s).starts_with("gated-"); }

  // Layer i has experts when i % step = 1, or always with step = 1; never with 0.
  static std::vector<bool> every(int64_t layers, int64_t step) {
    std::vector<bool> out;
    for (int64_t i = 0; i < layers; ++i) out.push_back(step == 1 || (step > 1 && i % step == 1));
    return out;
  }

  static int64_t step_of(const std::vector<bool>& sparse) {
    const auto layers = static_cast<int64_t>(sparse.size());
    for (int64_t step = 0; step <= layers; ++step)
      if (every(layers, step) == sparse) return step;
    return 0;  // no step says it: cannot_state will find the difference
  }

  // T5 and the published weights have the bias in every layer, as transformers 4 computes. transformers 5 (measured: 5.12.1) hands it to
  // no layer but the first, which is then what a folder that it wrote was made with. Our own key settles it.
  static bool first_layer_only(HfConfig& config) {
    return config.flag("relative_attention_in_first_layer_only", std::atoi(config.text("transformers_version", "4").c_str()) >= 5);
  }

  static void read_experts(HfConfig& config, ModelSpec& s) {
    MoESpec& m = s.moe.emplace();
    m.num_experts = config.size("num_experts", 8);
    m.d_expert = s.d_ff;
    m.experts = s.ffn;
    const double jitter = config.number("router_jitter_noise", 0.01);
    m.gate = softmax_top_k(1, false, jitter);
    if (config.flag("router_bias", false))
      m.gate = {"chain", ConfigNode{{"score", kScoreWithBias}, {"noise", ConfigNode{{"kind", "jitter"}, {"eps", jitter}}}, {"select", ConfigNode{{"kind", "top_k"}, {"k", 1}}}, {"weigh", "raw"}}};
    m.capacity.rows = m.capacity.eval_rows = config.size("expert_capacity", 64);
    m.capacity.per_sequence = true;
    m.capacity.overflow = "pass_through";
    const double z = config.number("router_z_loss_coef", 0.001), balance = config.number("router_aux_loss_coef", 0.001);
    if (z > 0) m.losses.push_back({"router_z", ConfigNode{{"weight", z}, {"layer_reduce", "pooled"}}});
    if (balance > 0) m.losses.push_back({"sequence_balance", ConfigNode{{"weight", balance}, {"layer_reduce", "pooled"}}});
  }

  static double jitter_of(const BlockSpec& gate) {
    double eps = option_of(gate, "jitter_eps", 0.0);
    if (const ConfigNode* noise = gate.options.find("noise"))
      if (const ConfigNode* node = noise->find("eps")) read_any(*node, "eps", eps);
    return eps;
  }

  static double weight_of(const MoESpec& m, const char* kind) {
    for (const auto& block : m.losses)
      if (block.kind == kind) return read_loss(block).weight;
    return 0;
  }

  // Files state how many layers are sparse, newer ones the step as well.
  static int64_t sparse_step(HfConfig& config, const std::string& stack, int64_t layers) {
    const int64_t sparse = config.integer("num_sparse_" + stack + "_layers", 3);
    if (sparse > layers) fail(ErrorKind::config, "config.json: num_sparse_{}_layers = {}, but there are {} layers", stack, sparse, layers);
    return config.integer(stack + "_sparse_step", sparse > 0 ? layers / sparse : layers);
  }

  static void write_stack(nlohmann::ordered_json& config, const std::string& stack, const char* layers_key, const std::vector<bool>& sparse) {
    config[layers_key] = sparse.size();
    config["num_sparse_" + stack + "_layers"] = std::count(sparse.begin(), sparse.end(), true);
    config[stack + "_sparse_step"] = step_of(sparse);
  }
};

}  // namespace

FamilyEntry family_switch_transformers() {
  return {"switch_transformers", "arXiv:2101.03961", "sparse encoder and decoder: T5 with one expert per token",
          std::make_shared<SwitchTransformers>("switch_transformers", "SwitchTransformersForConditionalGeneration")};
}

}  // namespace switchyard
