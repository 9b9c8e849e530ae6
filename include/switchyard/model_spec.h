// What a decoder-only language model is made of. Read from a recipe or from a checkpoint, printed back in full.
#pragma once

#include "switchyard/dispatch_plan.h"
#include "switchyard/loss.h"

#include <nlohmann/json.hpp>

#include <optional>
#include <string>
#include <vector>

namespace switchyard {

// Which layers have experts, by another rule than MoESpec's every, offset and first_k_dense (models/placement.cpp). The word alone is
// the short form.
struct PlacementSpec {
  static constexpr bool kShortForm = true;
  std::string kind = "every";
  int64_t n = 0;
  std::vector<int64_t> layers = {};

  template <class V> void fields(V&& v) {
    v("kind", kind, "every (with moe.every, offset, first_k_dense), last_even, first_half, second_half, interval, spread or list");
    v("n", n, "layers with experts, of last_even and spread");
    v("layers", layers, "of list: their numbers from 0");
  }
};

// The MoE sub-layer, and the layers that have it: i >= first_k_dense and i % every == offset, unless `where` or ModelSpec::pattern says.
struct MoESpec {
  int64_t num_experts = 8, d_expert = 0;  // d_expert 0 = d_ff
  BlockSpec gate = {"top_k", {{"k", 2}}};
  BlockSpec experts = "swiglu";
  int64_t num_shared_experts = 0;
  BlockSpec join = "sum";
  double routed_scale = 1.0;
  CapacityOptions capacity;
  std::vector<BlockSpec> losses;  // read with read_loss
  BlockSpec dispatcher = "local";
  bool allow_lookahead = false;
  int64_t every = 1, offset = 0, first_k_dense = 0;
  PlacementSpec where;
  std::string site = "ffn";  // what an expert takes the place of: the feed-forward network, or with "layer" the whole block

  template <class V> void fields(V&& v) {
    v("num_experts", num_experts, "experts in a layer");
    v("d_expert", d_expert, "inner width of one expert; 0 = d_ff");
    v("gate", gate, "who goes where: `switchyard list gates`");
    v("experts", experts, "what an expert is: `switchyard list experts`");
    v("num_shared_experts", num_shared_experts, "experts that see every token");
    v("join", join, "how shared experts meet the routed sum: `switchyard list joins`");
    v("routed_scale", routed_scale, "factor of the routed sum");
    v("capacity", capacity, "rows an expert may take");
    v("losses", losses, "auxiliary losses: `switchyard list losses`");
    v("dispatcher", dispatcher, "how rows reach their experts");
    v("allow_lookahead", allow_lookahead, "accept gates and priorities that see later tokens in a causal model: its loss is then too low");
    v("every", every, "a MoE layer every so many layers");
    v("offset", offset, "layer i is MoE when i % every == offset");
    v("first_k_dense", first_k_dense, "the first layers are dense");
    v("where", where, "another rule: last_even, first_half, second_half, interval, spread or list");
    v("site", site, "what there are several of: ffn = the feed-forward network, layer = the whole transformer layer, chosen per sequence");
  }
};

// Mixtures of small experts at sites (site.h) of the blocks: each (layer, site) gets a gate and a bank of its own. The experts
// begin so that the model computes what it computed before; train.optimizer.train_only = ["mixtures"] keeps the rest as it is.
struct MixtureSpec {
  std::vector<std::string> sites;
  std::vector<int64_t> layers;  // empty = all that have the sites
  int64_t num_experts = 4;
  BlockSpec experts = "lora";
  BlockSpec gate = "dense";
  std::vector<int64_t> tags;  // only tokens of these tags take part; empty = all
  bool per_head = false;
  std::vector<BlockSpec> losses;  // read with read_loss
  bool allow_lookahead = false;

  template <class V> void fields(V&& v) {
    v("sites", sites, "where: attn.q, attn.k, attn.v, attn.o, ffn.gate, ffn.up, ffn.inner, ffn.down");
    v("layers", layers, "in which layers; empty = all that have the sites");
    v("num_experts", num_experts, "experts at each site");
    v("experts", experts, "what an expert is: `switchyard list experts`; lora and scale are made for sites");
    v("gate", gate, "who goes where: `switchyard list gates`");
    v("tags", tags, "only tokens of these tags take part; empty = all tokens");
    v("per_head", per_head, "each head of a key or value is a token of its own (experts that rescale)");
    v("losses", losses, "auxiliary losses over all sites of this mixture: `switchyard list losses`");
    v("allow_lookahead", allow_lookahead, "accept a gate that sees later tokens in a causal model: its loss is then too low");
  }
};

// One entry of ModelSpec::pattern: the parts of a layer, each with its own norm and residual sum, and what is special about
// them. The word alone is the short form.
struct LayerSpec {
  static constexpr bool kShortForm = true;
  std::string kind;             // attention | dense | moe | attention+dense | attention+moe
  int64_t d_ff = 0;             // of its dense network; 0 = the model's
  std::optional<BlockSpec> ffn;  // likewise
  int64_t d_expert = 0;         // of its experts; 0 = the model's
  ConfigNode moe;               // keys of MoESpec, read over a copy of the model's

  template <class V> void fields(V&& v) {
    v("kind", kind, "attention, dense, moe, attention+dense or attention+moe");
    v("d_ff", d_ff, "inner width of the dense network; 0 = the model's");
    v("ffn", ffn, "kind of the dense network; absent = the model's");
    v("d_expert", d_expert, "inner width of one expert; 0 = the model's");
    v("moe", moe, "keys of [model.moe] that differ in this layer");
  }
};

// One layer with every number that it uses.
struct LayerPlan {
  bool attention = false;
  std::optional<int64_t> d_ff;  // width of the dense network, if there is one
  BlockSpec ffn;
  std::optional<MoESpec> moe;   // of the experts, if there are any

  template <class V> void fields(V&& v) {
    v("attention", attention, "");
    v("d_ff", d_ff, "");
    v("ffn", ffn, "");
    v("moe", moe, "");
  }
};

struct ModelSpec {
  int64_t vocab_size = 0;  // 0 = the tokenizer's
  int64_t d_model = 256, num_layers = 4, num_heads = 4;
  int64_t num_kv_heads = 0;  // 0 = num_heads
  int64_t head_dim = 0;      // 0 = d_model / num_heads
  int64_t d_ff = 1024;       // inner width of dense layers
  bool causal = true;        // false: every token sees all others; trained by filling in masked tokens
  BlockSpec ffn = "swiglu";  // kind of the dense layers
  int64_t max_positions = 1024;
  double norm_eps = 1e-5, rope_theta = 10000;
  bool tie_embeddings = false;
  double dropout = 0;        // on the embedding and on every residual branch, training only
  double init_std = 0.02;    // N(0, std^2); matrices that write to the residual stream use std / sqrt(num_branches())
  std::optional<MoESpec> moe;
  std::vector<LayerSpec> pattern = {};  // layer i is entry i % size; empty: attention in every layer, experts where `moe` places them
  std::vector<MixtureSpec> mixtures = {};  // at sites of the blocks, in the order in which they act

  template <class V> void fields(V&& v) {
    v("vocab_size", vocab_size, "rows of the embedding; 0 = the tokenizer's");
    v("d_model", d_model, "width of a token");
    v("num_layers", num_layers, "transformer blocks");
    v("num_heads", num_heads, "query heads");
    v("num_kv_heads", num_kv_heads, "key and value heads; 0 = num_heads");
    v("head_dim", head_dim, "width of a head; 0 = d_model / num_heads");
    v("d_ff", d_ff, "inner width of dense layers");
    v("causal", causal, "a token sees those before it; false: all of them, for train.objective = 'masked'");
    v("ffn", ffn, "kind of the dense layers: relu, gelu, swiglu ... (`switchyard list experts`)");
    v("max_positions", max_positions, "longest sequence");
    v("norm_eps", norm_eps, "added to the mean square in RMSNorm");
    v("rope_theta", rope_theta, "base of the rotary angles");
    v("tie_embeddings", tie_embeddings, "the head uses the embedding matrix");
    v("dropout", dropout, "on the embedding and on every residual branch, training only");
    v("init_std", init_std, "standard deviation of the initial weights");
    v("moe", moe, "the Mixture-of-Experts layers");
    v("pattern", pattern, "the layers one by one, repeated over num_layers; empty: attention and a network in each, experts as moe.every says");
    v("mixtures", mixtures, "mixtures of small experts at linears and activations of the blocks");
  }

  // The form with every 0 = "derived" replaced by its value. Throws Error{config} naming the key, the layer, the value
  // and the allowed range (zero sizes, top_k > num_experts, heads that do not divide, unknown kinds and options...).
  [[nodiscard]] ModelSpec resolved() const;
  [[nodiscard]] bool is_moe_layer(int64_t layer) const;
  // Throws Error{config} for an entry of the pattern that makes no sense.
  [[nodiscard]] LayerPlan layer(int64_t layer) const;
  // Residual sums of the stack: 2 * num_layers without a pattern.
  [[nodiscard]] int64_t num_branches() const;
  // Rows of the vocabulary behind those of the tokenizer: the mask of a model that is not causal.
  [[nodiscard]] int64_t extra_tokens() const { return causal ? 0 : 1; }
};

[[nodiscard]] ModelSpec read_model_spec(const ConfigNode& node, const std::string& path);
[[nodiscard]] nlohmann::ordered_json to_json(const ModelSpec& spec);

// Exact counts by part, without allocating anything.
struct ParameterCount {
  struct Part { std::string name; int64_t total = 0, active = 0; double flops_per_token = 0; };
  std::vector<Part> parts;
  int64_t total = 0, active = 0;
  // Forward FLOPs of one token (multiply and add are two), attention counted at half of `max_positions` keys
  // (all of them when not causal).
  double flops_per_token = 0;
};
[[nodiscard]] ParameterCount count_parameters(const ModelSpec& spec);

}  // namespace switchyard
