// What a language model is made of. Read from a recipe or from a checkpoint, printed back in full.
#pragma once

#include "switchyard/dispatch_plan.h"
#include "switchyard/loss.h"

#include <nlohmann/json.hpp>

#include <optional>
#include <string>
#include <vector>

namespace switchyard {

// How positions turn queries and keys: angle = position * theta^(-2i / dims), and what published models do to reach further than
// they were trained for. `switchyard/mixer.h` says what is turned.
struct RopeSpec {
  std::string scaling = "none";  // none | linear | dynamic | yarn | llama3 | longrope
  int64_t dims = 0;              // of a head, from the first; 0 = all
  bool adjacent_pairs = false;
  double factor = 1;
  int64_t original_positions = 0;
  double attention_factor = 0;
  double beta_fast = 32, beta_slow = 1, mscale = 0, mscale_all_dim = 0;
  bool truncate = true;
  double low_freq_factor = 1, high_freq_factor = 4;
  std::vector<double> short_factor = {}, long_factor = {};
  double short_mscale = 0, long_mscale = 0;

  template <class V> void fields(V&& v) {
    v("scaling", scaling, "none, linear (arXiv:2306.15595), dynamic (NTK-aware), yarn (arXiv:2309.00071), llama3 (arXiv:2407.21783), longrope (arXiv:2402.13753)");
    v("dims", dims, "dimensions of a head that turn, from the first; 0 = all");
    v("adjacent_pairs", adjacent_pairs, "pairs (2i, 2i + 1) turn instead of (i, i + dims / 2)");
    v("factor", factor, "how many times longer texts may be than in training");
    v("original_positions", original_positions, "longest text of the first training; 0 = max_positions");
    v("attention_factor", attention_factor, "of queries and keys in yarn and longrope; 0 = by the rule of the scaling");
    v("beta_fast", beta_fast, "yarn: angles that turn more often in a text stay as they are");
    v("beta_slow", beta_slow, "yarn: angles that turn less often are divided by the factor");
    v("mscale", mscale, "yarn: attention factor 0.1 * mscale * ln(factor) + 1; 0 = 1");
    v("mscale_all_dim", mscale_all_dim, "yarn: the attention factor is divided by that of this mscale; 0 = not");
    v("truncate", truncate, "yarn: bounds are rounded to whole dimensions");
    v("low_freq_factor", low_freq_factor, "llama3: angles that turn less often in a text are divided by the factor");
    v("high_freq_factor", high_freq_factor, "llama3: angles that turn more often stay as they are");
    v("short_factor", short_factor, "longrope: divisors of the angles, texts up to original_positions");
    v("long_factor", long_factor, "longrope: divisors of the angles, longer texts");
    v("short_mscale", short_mscale, "longrope: attention factor of short texts; 0 = attention_factor");
    v("long_mscale", long_mscale, "longrope: attention factor of longer texts; 0 = attention_factor");
  }
};

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
  int64_t num_shared_experts = 0, d_shared = 0;  // d_shared 0 = num_shared_experts * d_expert
  BlockSpec join = "sum";
  double routed_scale = 1.0;
  bool output_bias = false;
  CapacityOptions capacity;
  std::vector<BlockSpec> losses;  // read with read_loss
  BlockSpec dispatcher = "local";
  bool allow_lookahead = false;
  int64_t every = 1, offset = 0, first_k_dense = 0;
  std::string input = "stream";  // what experts read, normed: stream | layer | previous_layer | previous_mixer
  PlacementSpec where;
  std::string site = "ffn";  // what an expert takes the place of: the feed-forward network, or with "layer" the whole block

  template <class V> void fields(V&& v) {
    v("num_experts", num_experts, "experts in a layer");
    v("d_expert", d_expert, "inner width of one expert; 0 = d_ff");
    v("gate", gate, "who goes where: `switchyard list gates`");
    v("experts", experts, "what an expert is: `switchyard list experts`");
    v("num_shared_experts", num_shared_experts, "experts that see every token");
    v("d_shared", d_shared, "inner width of the shared experts together; 0 = num_shared_experts * d_expert");
    v("join", join, "how shared experts meet the routed sum: `switchyard list joins`");
    v("routed_scale", routed_scale, "factor of the routed sum");
    v("output_bias", output_bias, "a bias is added to the output of the layer");
    v("capacity", capacity, "rows an expert may take");
    v("losses", losses, "auxiliary losses: `switchyard list losses`");
    v("dispatcher", dispatcher, "how rows reach their experts");
    v("allow_lookahead", allow_lookahead, "accept gates and priorities that see later tokens in a causal model: its loss is then too low");
    v("every", every, "a MoE layer every so many layers");
    v("offset", offset, "layer i is MoE when i % every == offset");
    v("first_k_dense", first_k_dense, "the first layers are dense");
    v("input", input, "what experts read: stream = the residual stream where they stand, layer = as the layer got it, previous_layer and "
                      "previous_mixer = as the layer before got it, and as it was behind that layer's mixer");
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
// The sum of the residual stream and what a branch adds: stream_scale * stream + residual_scale * branch.
struct SumSpec {
  double stream_scale = 0, residual_scale = 0;

  template <class V> void fields(V&& v) {
    v("stream_scale", stream_scale, "factor of the stream; 0 = the model's");
    v("residual_scale", residual_scale, "factor of what is added; 0 = the model's");
  }
};

struct LayerSpec {
  static constexpr bool kShortForm = true;
  std::string kind;             // a mixer, dense, moe, or a mixer with one of them: attention+moe; `attention` is the model's mixer
  std::optional<BlockSpec> mixer;  // of this layer, with its options
  int64_t d_ff = 0;             // of its dense network; 0 = the model's
  std::optional<BlockSpec> ffn;  // likewise
  int64_t d_expert = 0;         // of its experts; 0 = the model's
  ConfigNode moe;               // keys of MoESpec, read over a copy of the model's
  std::optional<SumSpec> mixer_sum, network_sum;  // of this layer

  template <class V> void fields(V&& v) {
    v("kind", kind, "attention (the model's mixer) or another mixer, dense, moe, or mixer+dense, mixer+moe, mixer+dense+moe");
    v("mixer", mixer, "the mixer with its options; absent = the one that `kind` names");
    v("d_ff", d_ff, "inner width of the dense network; 0 = the model's");
    v("ffn", ffn, "kind of the dense network; absent = the model's");
    v("d_expert", d_expert, "inner width of one expert; 0 = the model's");
    v("moe", moe, "keys of [model.moe] that differ in this layer");
    v("mixer_sum", mixer_sum, "factors of the residual sum behind the mixer; absent = the model's");
    v("network_sum", network_sum, "factors of the residual sums behind dense network and experts; absent = the model's");
  }
};

// One layer with every number that it uses.
struct LayerPlan {
  std::optional<BlockSpec> mixer;
  std::optional<int64_t> d_ff;  // width of the dense network, if there is one
  BlockSpec ffn;
  std::optional<MoESpec> moe;   // of the experts, if there are any
  SumSpec mixer_sum, network_sum;

  template <class V> void fields(V&& v) {
    v("mixer", mixer, "");
    v("d_ff", d_ff, "");
    v("ffn", ffn, "");
    v("moe", moe, "");
    v("mixer_sum", mixer_sum, "");
    v("network_sum", network_sum, "");
  }
};

// The stack that reads the source in a model of two stacks: width, heads, norms, positions, networks and embedding are those of
// the model, whose own layers are the decoder (ModelSpec::pattern says where it attends to the source). It is not causal.
struct EncoderSpec {
  int64_t num_layers = 4;
  std::vector<LayerSpec> pattern = {};

  template <class V> void fields(V&& v) {
    v("num_layers", num_layers, "layers of the encoder");
    v("pattern", pattern, "its layers one by one, as model.pattern; empty: attention and a network in each, experts as model.moe.every says");
  }
};

struct ModelSpec {
  int64_t vocab_size = 0;  // 0 = the tokenizer's
  int64_t d_model = 256, num_layers = 4, num_heads = 4;
  int64_t num_kv_heads = 0;  // 0 = num_heads
  int64_t head_dim = 0;      // 0 = d_model / num_heads
  int64_t d_ff = 1024;       // inner width of dense layers
  BlockSpec mixer = "attention";
  std::string norm = "rms";  // rms | layer | layer_no_bias
  bool sandwich_norm = false;  // a second norm behind every mixer and network, before the residual sum
  std::string positions = "rotary";  // rotary | learned | sinusoidal | relative | relative_first | none
  RopeSpec rope = {};
  int64_t relative_buckets = 32, relative_distance = 128;
  int64_t padding_id = -1;   // has no sinusoidal position (the first is padding_id + 1), and its embedding no gradient as an input
  bool causal = true;        // false: every token sees all others; trained by filling in masked tokens
  BlockSpec ffn = "swiglu";  // kind of the dense layers
  int64_t max_positions = 1024;
  double norm_eps = 1e-5, rope_theta = 10000;
  bool tie_embeddings = false, head_bias = false;
  double embed_scale = 1, residual_scale = 1, stream_scale = 1, logit_scale = 1;
  std::string residual = "stream";  // stream | norm: what a branch is added to
  double dropout = 0;        // on the embedding and on every residual branch, training only
  double init_std = 0.02;    // N(0, std^2); matrices that write to the residual stream use std / sqrt(num_branches())
  std::vector<BlockSpec> losses = {};  // over the routers of mixers, in a model without [moe]
  std::optional<MoESpec> moe;
  std::vector<LayerSpec> pattern = {};  // layer i is entry i % size; empty: attention in every layer, experts where `moe` places them
  std::vector<MixtureSpec> mixtures = {};  // at sites of the blocks, in the order in which they act
  std::optional<EncoderSpec> encoder = {};

  template <class V> void fields(V&& v) {
    v("vocab_size", vocab_size, "rows of the embedding; 0 = the tokenizer's");
    v("d_model", d_model, "width of a token");
    v("num_layers", num_layers, "transformer blocks");
    v("num_heads", num_heads, "query heads");
    v("num_kv_heads", num_kv_heads, "key and value heads; 0 = num_heads");
    v("head_dim", head_dim, "width of a head; 0 = d_model / num_heads");
    v("d_ff", d_ff, "inner width of dense layers");
    v("mixer", mixer, "what moves information between tokens: `switchyard list mixers`");
    v("norm", norm, "rms, layer (LayerNorm) or layer_no_bias");
    v("sandwich_norm", sandwich_norm, "a second norm behind every mixer and network, before the residual sum");
    v("positions", positions, "rotary, learned (a vector per position is added to the embedding), sinusoidal (a fixed one), "
      "relative (a learned bias of the scores per distance and head, one table per stack), relative_first (in its first layer alone) or none");
    v("rope", rope, "what is special about rotary positions");
    v("relative_buckets", relative_buckets, "relative positions: rows of the table; near distances have one each");
    v("relative_distance", relative_distance, "relative positions: distances from here on share the last row");
    v("padding_id", padding_id, "a token whose embedding learns nothing from being read, and that has no sinusoidal position; the first position less one; -1 = none");
    v("causal", causal, "a token sees those before it; false: all of them, for train.objective = 'masked'");
    v("ffn", ffn, "kind of the dense layers: relu, gelu, swiglu ... (`switchyard list experts`)");
    v("max_positions", max_positions, "longest sequence");
    v("norm_eps", norm_eps, "added to the mean square in RMSNorm, to the variance in LayerNorm");
    v("rope_theta", rope_theta, "base of the rotary angles");
    v("tie_embeddings", tie_embeddings, "the head uses the embedding matrix");
    v("head_bias", head_bias, "logits have a bias per token of the vocabulary");
    v("embed_scale", embed_scale, "factor of the embedding");
    v("residual_scale", residual_scale, "factor of what a mixer or network adds to the residual stream");
    v("stream_scale", stream_scale, "factor of what it is added to");
    v("residual", residual, "what that is: stream = the residual stream, norm = the stream behind the norm of the branch");
    v("logit_scale", logit_scale, "factor of the logits");
    v("dropout", dropout, "on the embedding and on every residual branch, training only");
    v("init_std", init_std, "standard deviation of the initial weights");
    v("losses", losses, "auxiliary losses of a model whose routers stand in mixers alone; with [model.moe] its losses go over both");
    v("moe", moe, "the Mixture-of-Experts layers");
    v("pattern", pattern, "the layers one by one, repeated over num_layers; empty: attention and a network in each, experts as moe.every says");
    v("mixtures", mixtures, "mixtures of small experts at linears and activations of the blocks");
    v("encoder", encoder, "a stack in front that reads a source; layers with cross_attention read what it made");
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
