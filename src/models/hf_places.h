// Rows of a family's table that the Llama line of models shares. Names are those of the files; what a layer has (biases, norms of
// queries, latent attention, a state space...) is asked of the specification.
#pragma once

#include "models/family.h"

#include <nlohmann/json.hpp>

namespace switchyard {

using Places = std::vector<TensorPlace>;

// Names outside the layers, and those in front of a layer's parts. "{}" stands for the layer.
struct HfNames {
  std::string embed = "model.embed_tokens.weight", head = "lm_head", norm = "model.norm";
  std::string layer = "model.layers.{}.";
  std::string attn_norm = "input_layernorm", ffn_norm = "post_attention_layernorm";
  std::string attn = "self_attn.", state_space = "mamba.";

  [[nodiscard]] std::string in_layer(int64_t i) const { return fmt::format(fmt::runtime(layer), i); }
};

// The matrices of one gated network: "mlp.gate_proj.weight", or with an index "mlp.experts.3.w1.weight".
struct GatedNames {
  std::string gate, up, down;
};
[[nodiscard]] GatedNames gated_names(const std::string& prefix, const GatedNames& matrices);  // prefix + matrix + ".weight"
inline const GatedNames kProjNames = {"gate_proj", "up_proj", "down_proj"}, kMixtralNames = {"w1", "w3", "w2"};

void add_norm_places(Places& out, const std::string& stored, const std::string& parameter, const ModelSpec& spec);
// Embedding, final norm and (untied) head.
void add_outer_places(Places& out, const ModelSpec& spec, const HfNames& names = {});
// Norms and mixer of layer i.
void add_attention_places(Places& out, const ModelSpec& spec, int64_t layer, const HfNames& names = {});

// Gate half, up half and output matrix of expert `index` of the bank `bank` ("layers.3.ffn.experts"); width = {key, size}.
void add_gated_expert(Places& out, const GatedNames& names, const std::string& bank, int64_t index, const Dimension& width, int64_t d_model);
// The dense network of a layer.
void add_dense_places(Places& out, const ModelSpec& spec, int64_t layer, const std::string& prefix, const GatedNames& matrices = kProjNames);
// Which keys of config.json say how many experts there are and how wide one is, for messages about shapes.
struct ExpertKeys {
  std::string count = "num_experts", width = "moe_intermediate_size";
};
inline const ExpertKeys kMixtralKeys = {"num_local_experts", "intermediate_size"};

// The experts of a layer, one tensor per matrix; `prefix` with "{}" for the expert: "model.layers.3.mlp.experts.{}.".
void add_separate_experts(Places& out, const ModelSpec& spec, int64_t layer, const std::string& prefix, const GatedNames& matrices = kProjNames,
                          const ExpertKeys& keys = {});
// The same in two stacked tensors [E, 2f, d], gate rows before up rows, and [E, d, f].
void add_stacked_experts(Places& out, const ModelSpec& spec, int64_t layer, const std::string& gate_up, const std::string& down, const ExpertKeys& keys = {});
void add_router_place(Places& out, const ModelSpec& spec, int64_t layer, const std::string& stored, const ExpertKeys& keys = {});
void add_shared_places(Places& out, const ModelSpec& spec, int64_t layer, const std::string& prefix, const GatedNames& matrices = kProjNames);

// Leftovers in published files: rotary frequencies, and the head of a model whose embeddings are tied.
[[nodiscard]] bool is_known_leftover(const std::string& stored, const ModelSpec& spec);

// An option of a block, or `absent`.
template <class T> [[nodiscard]] T option_of(const BlockSpec& block, const std::string& key, T absent) {
  if (const ConfigNode* node = block.options.find(key)) read_any(*node, key, absent);
  return absent;
}

class HfConfig;
// Sizes and constants with the same keys in the whole line; networks and the options of attention are left to the family.
struct HfDefaults {
  int64_t max_positions;
  double norm_eps, rope_theta, partial_rotary = 1;
};
[[nodiscard]] ModelSpec read_common_keys(HfConfig& config, const HfDefaults& absent);
void write_common_keys(nlohmann::ordered_json& config, const ModelSpec& resolved);

// The kind of a gated network by hidden_act, and back.
[[nodiscard]] BlockSpec gated_kind(HfConfig& config, const std::string& absent = "silu", const char* key = "hidden_act");
[[nodiscard]] std::string hidden_act_of(const BlockSpec& kind);

// Softmax over all experts, the k best; equal to a softmax over the k best logits when renormalised. k = 1 renormalised is the
// constant 1.
[[nodiscard]] BlockSpec softmax_top_k(int64_t k, bool renormalise, double jitter_eps = 0);
[[nodiscard]] int64_t top_k_of(const BlockSpec& gate);
[[nodiscard]] bool renormalises(const BlockSpec& gate);

// The loss that transformers adds for this line: over the router logits of all layers together, with f not divided by k.
void set_pooled_loss(MoESpec& moe, double weight);
[[nodiscard]] double pooled_loss_weight(const MoESpec& moe);

// Windows by layer: `layer_types` of the config when it has them, else `windowed`. What does not differ needs no pattern.
void set_windows(ModelSpec& spec, const std::vector<int64_t>& window_of_layer);
[[nodiscard]] std::vector<int64_t> windows_of(const ModelSpec& spec);
// Which layers have experts, as a rule of MoESpec where one says it, else as a pattern.
void set_moe_layers(ModelSpec& spec, const std::vector<bool>& is_moe);
[[nodiscard]] std::vector<bool> moe_layers_of(const ModelSpec& spec);

}  // namespace switchyard
