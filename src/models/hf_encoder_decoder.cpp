#include "models/hf_encoder_decoder.h"

#include "switchyard/error.h"

#include <algorithm>

namespace switchyard {

ModelSpec HfEncoderDecoder::read_config(const ConfigNode& node) const {
  HfConfig config(node);
  ModelSpec s = read(config);
  config.refuse_other_keys();
  return s;
}

namespace {

// Does every block of the decoder attend to itself first, and then in one layer to the source and through a network?
bool has_block_form(const ModelSpec& s) {
  if (!s.encoder || s.num_layers % 2 != 0) return false;
  for (int64_t i = 0; i < s.num_layers; ++i) {
    const auto plan = s.layer(i);
    const bool cross = i % 2 == 1;
    if (!plan.mixer || plan.mixer->kind != (cross ? "cross_attention" : "attention")) return false;
    if ((plan.d_ff.has_value() != plan.moe.has_value()) != cross) return false;
  }
  return true;
}

}  // namespace

nlohmann::ordered_json HfEncoderDecoder::write_config(const ModelSpec& spec) const {
  const ModelSpec s = canonical(spec);
  if (!has_block_form(s)) fail(ErrorKind::unsupported, "'{}' is an encoder and a decoder of blocks with attention, attention to the source and a network", model_type_);
  nlohmann::ordered_json config{{"architectures", {architecture_}}, {"is_encoder_decoder", true}, {"model_type", model_type_}};
  write(config, s);
  return config;
}

std::vector<Places> HfEncoderDecoder::layouts(const LanguageModel& model) const {
  Places places;
  add_outer(places, model.spec());
  for (const HfStack& stack : {HfStack{encoder_spec(model.spec()).resolved(), "encoder", "encoder."}, HfStack{model.spec(), "decoder", ""}}) {
    add_stack(places, stack);
    for (int64_t i = 0; i < stack.spec.num_layers; ++i) add_layer(places, stack, i);
  }
  return {places};
}

void set_stacks(ModelSpec& s, const std::vector<bool>& encoder, const std::vector<bool>& decoder, const BlockSpec& cross) {
  const auto entry = [](const std::string& mixer, bool sparse) {
    LayerSpec out;
    out.kind = mixer + (sparse ? "+moe" : "+dense");
    return out;
  };
  EncoderSpec& front = s.encoder.emplace();
  front.num_layers = static_cast<int64_t>(encoder.size());
  for (const bool sparse : encoder) front.pattern.push_back(entry("attention", sparse));
  s.num_layers = 2 * static_cast<int64_t>(decoder.size());
  s.pattern.clear();
  for (const bool sparse : decoder) {
    s.pattern.emplace_back(), s.pattern.back().kind = "attention";
    s.pattern.push_back(entry("cross_attention", sparse));
    s.pattern.back().mixer = cross;
  }
  if (std::find(encoder.begin(), encoder.end(), true) == encoder.end() && std::find(decoder.begin(), decoder.end(), true) == decoder.end()) s.moe.reset();
}

std::vector<bool> sparse_blocks(const ModelSpec& stack) {
  std::vector<bool> out;
  for (int64_t i = 0; i < stack.num_layers; ++i) {
    const auto plan = stack.layer(i);
    if (plan.d_ff || plan.moe) out.push_back(plan.moe.has_value());
  }
  return out;
}

BlockSpec plain_kind(HfConfig& config, const char* key, bool bias) {
  const auto act = config.text(key, "relu");
  const std::string kind = act == "relu" || act == "gelu" ? act : act == "gelu_new" || act == "gelu_pytorch_tanh" ? "gelu_tanh" : "";
  if (kind.empty()) fail(ErrorKind::unsupported, "config.json: {} = '{}': networks of this layout are known with relu, gelu and gelu_new", key, act);
  return bias ? BlockSpec(kind, {{"bias", true}}) : BlockSpec(kind);
}

std::string plain_name(const ModelSpec& s) {
  const auto& kind = (s.moe ? s.moe->experts : s.ffn).kind;
  return kind == "gelu_tanh" ? "gelu_new" : kind;
}

void add_plain_expert(Places& out, const std::string& file, const PlainNames& names, const std::string& bank, int64_t index, const Dimension& width,
                      int64_t d_model, bool bias) {
  const Dimension d{"d_model", d_model};
  out.push_back({file + names.in + ".weight", bank + ".w_in", {width, d}, index});
  if (bias) out.push_back({file + names.in + ".bias", bank + ".b_in", {width}, index});
  out.push_back({file + names.out + ".weight", bank + ".w_out", {d, width}, index});
  if (bias) out.push_back({file + names.out + ".bias", bank + ".b_out", {d}, index});
}

bool has_router_bias(const BlockSpec& gate) {
  const ConfigNode* score = gate.options.find("score");
  const ConfigNode* bias = score ? score->find("bias") : nullptr;
  bool out = false;
  if (bias) read_any(*bias, "bias", out);
  return out;
}

void add_classifier(Places& out, const std::string& file, const std::string& score, const MoESpec& m, int64_t d_model) {
  const Dimension n{"num_experts", m.num_experts};
  out.push_back({file + "weight", score + "weight", {n, {"d_model", d_model}}});
  if (has_router_bias(m.gate)) out.push_back({file + "bias", score + "bias", {n}});
}

void add_projections(Places& out, const ModelSpec& s, const std::string& file, const std::array<const char*, 4>& names, const std::string& model, bool bias) {
  const Dimension d{"d_model", s.d_model}, q{"heads * width of a head", s.num_heads * s.head_dim};
  const char* const own[] = {"q_proj", "k_proj", "v_proj", "o_proj"};
  for (size_t i = 0; i < 4; ++i) {
    const bool output = i == 3;
    out.push_back({file + names[i] + ".weight", model + own[i], {output ? d : q, output ? q : d}});
    if (bias) out.push_back({file + names[i] + ".bias", model + own[i] + "_bias", {output ? d : q}});
  }
}

}  // namespace switchyard
