#include "models/hf_qwen_moe.h"

#include "models/hf_config.h"

#include <algorithm>

namespace switchyard {

void read_qwen_experts(HfConfig& config, ModelSpec& s, const QwenDefaults& absent) {
  s.ffn = gated_kind(config);
  s.d_ff = config.size("intermediate_size");
  MoESpec& m = s.moe.emplace();
  m.d_expert = config.size("moe_intermediate_size");
  m.num_experts = config.size("num_experts", absent.num_experts);
  m.gate = softmax_top_k(config.size("num_experts_per_tok", absent.top_k), config.flag("norm_topk_prob", false));
  m.experts = s.ffn;
  set_pooled_loss(m, config.number("router_aux_loss_coef", 0.001));
  const int64_t step = config.size("decoder_sparse_step", 1);
  const auto dense = config.integers("mlp_only_layers");
  std::vector<bool> is_moe;
  for (int64_t i = 0; i < s.num_layers; ++i) is_moe.push_back((i + 1) % step == 0 && std::find(dense.begin(), dense.end(), i) == dense.end());
  if (std::find(is_moe.begin(), is_moe.end(), true) == is_moe.end()) s.moe.reset();
  else set_moe_layers(s, is_moe);
}

void write_qwen_experts(nlohmann::ordered_json& config, const ModelSpec& s) {
  const MoESpec m = s.moe.value_or(MoESpec{});
  config["hidden_act"] = hidden_act_of(m.experts);
  config["intermediate_size"] = s.d_ff;
  config["moe_intermediate_size"] = m.d_expert;
  config["norm_topk_prob"] = renormalises(m.gate);
  config["num_experts"] = m.num_experts;
  config["num_experts_per_tok"] = top_k_of(m.gate);
  config["output_router_logits"] = false;
  config["router_aux_loss_coef"] = pooled_loss_weight(m);
  const auto is_moe = moe_layers_of(s);
  const auto first = std::find(is_moe.begin(), is_moe.end(), true) - is_moe.begin();
  const auto by_step = [&](int64_t step) {
    for (size_t i = 0; i < is_moe.size(); ++i)
      if (is_moe[i] != ((static_cast<int64_t>(i) + 1) % step == 0)) return false;
    return true;
  };
  const int64_t step = by_step(first + 1) ? first + 1 : 1;
  config["decoder_sparse_step"] = step;
  auto dense = nlohmann::ordered_json::array();
  for (size_t i = 0; i < is_moe.size(); ++i)
    if (step == 1 && !is_moe[i]) dense.push_back(i);
  config["mlp_only_layers"] = dense;
}

void add_qwen_network(Places& out, const ModelSpec& s, int64_t layer, bool stacked) {
  const auto plan = s.layer(layer);
  const auto file = fmt::format("model.layers.{}.mlp.", layer);
  if (plan.d_ff) add_dense_places(out, s, layer, file);
  if (!plan.moe) return;
  add_router_place(out, s, layer, file + "gate.weight");
  if (stacked) add_stacked_experts(out, s, layer, file + "experts.gate_up_proj", file + "experts.down_proj");
  else add_separate_experts(out, s, layer, file + "experts.{}.");
}

}  // namespace switchyard
