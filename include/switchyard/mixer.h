// The part of a layer that moves information between tokens: attention in its forms, state spaces. One plug-in per form
// (src/mixers/); a layer has at most one, named by ModelSpec::mixer or by a word of its pattern.
#pragma once

#include "switchyard/fwd.h"
#include "switchyard/packable.h"
#include "switchyard/plug_in.h"
#include "switchyard/random.h"
#include "switchyard/routing_stats.h"
#include "switchyard/site.h"

#include <torch/nn/module.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard {

// Cosine and sine of the rotary angles: [positions, dims / 2] float32. Undefined in models without rotary positions.
struct RotaryTable {
  torch::Tensor cos, sin;
};

// What all layers share in one call of the model.
struct CallContext {
  torch::Tensor positions;                // [B, S] int64
  torch::Tensor q_segments, k_segments;   // [B, S] and [B, Sk] int32; both undefined when all tokens see each other
  torch::Tensor valid;                    // [T] bool; undefined when no token is padding
  torch::Tensor token_ids, sequence_ids;  // [T] int64
  torch::Tensor tags;                     // [T] int64; undefined when the batch has none
  torch::Tensor previous_ids;             // [T] int64; defined when a cache holds what came before
  torch::Tensor previous_input, previous_mixed;  // [B, S, d]: what the layer before got, and its stream behind the mixer; undefined in the first
  RotaryTable rotary;
  torch::Tensor position_bias;            // [1, H, S, Sk], added to the scores of self-attention; undefined = none
  PagedCache* paged = nullptr;            // tokens are those of several sequences that it knows; then there is no LayerCache
  torch::Tensor memory, memory_segments;  // what an encoder made of the source [B, Sm, d]; [B, Sm] int32, -1 = padding, undefined = none
  RandomStream random{0};  // of this step
  int64_t step = 0, first_token = 0;
  bool training = false;

  // The stream of one use in one layer. Dropout masks are drawn per call, so its first token is part of the name.
  [[nodiscard]] RandomStream dropout_stream(const char* where, int64_t layer) const {
    return random.at(where, static_cast<uint64_t>(layer)).at("first_token", static_cast<uint64_t>(first_token));
  }
};

// What one layer keeps of the `length` tokens seen so far, when the model keeps anything.
struct LayerCache {
  std::vector<torch::Tensor> state;  // as Mixer::new_state made it
  int64_t length = 0;
  torch::Tensor* mix = nullptr;      // KvCache::mixes of the layer
};

// `fresh` [B, S, ...] goes behind the first `length` tokens of `room` [B, capacity, ...]: all of them, [B, length + S, ...].
[[nodiscard]] torch::Tensor append(const torch::Tensor& room, int64_t length, const torch::Tensor& fresh);

// Where a mixer stands, and where its weights come from.
struct MixerShape {
  int64_t d_model = 0, num_heads = 1, num_kv_heads = 1, head_dim = 0, layer = 0, num_layers = 1;
  int64_t max_positions = 0;
  bool causal = true;
  bool rotary = true;            // positions turn queries and keys
  int64_t rotary_dims = 0;       // the first dimensions of a head turn; 0 = all
  bool adjacent_pairs = false;   // pairs (2i, 2i + 1) turn, instead of (i, i + c/2)
  double norm_eps = 1e-5, init_std = 0, init_out_std = 0;
  std::optional<uint64_t> seed = {};  // without one the weights are zeros: a checkpoint follows
  bool sizes_only = false;       // weights have shapes and no storage

  // N(0, std^2), a pure function of (seed, layer, name), float32.
  [[nodiscard]] torch::Tensor weight(std::string_view name, torch::IntArrayRef shape, double std) const;
  [[nodiscard]] torch::Tensor constant(torch::IntArrayRef shape, double value) const;
};

// Routing inside a mixer that has experts.
struct MixerTrace {
  std::optional<RoutingStats> stats;
  Routing routing;
};

class Mixer : public torch::nn::Module {
 public:
  // x [B, S, d] -> [B, S, d]. With a cache the tokens stand behind those that it holds, which are seen as well; the caller
  // advances its length. `hook` hears of sites().
  [[nodiscard]] virtual torch::Tensor forward(const torch::Tensor& x, const CallContext& call, LayerCache* cache, MixerTrace& trace, const SiteHook& hook) = 0;
  // Room for `capacity` tokens of each of `batch` texts; the first dimension of every tensor is the text.
  [[nodiscard]] virtual std::vector<torch::Tensor> new_state(int64_t batch, int64_t capacity) const = 0;
  // Forward FLOPs of one token that sees `keys` tokens, products with the weights included.
  [[nodiscard]] virtual double flops_per_token(double keys) const = 0;
  // Parameters that work for one token.
  [[nodiscard]] virtual int64_t active_parameters() const { return num_parameters(); }
  [[nodiscard]] int64_t num_parameters() const;
  // Dimensions that rotary positions turn; 0 = none. Equal for all mixers of a model.
  [[nodiscard]] virtual int64_t rotary_dims() const { return 0; }
  [[nodiscard]] virtual std::vector<Site> sites() const { return {}; }
  // Parameters that may be packed: linears alone read them.
  [[nodiscard]] virtual std::vector<Packable> packable() const { return {}; }
  // True if it can keep what it saw in CallContext::paged.
  [[nodiscard]] virtual bool pages() const { return false; }
  // True for attention to a source: then the call has a memory.
  [[nodiscard]] virtual bool reads_memory() const { return false; }
};

using MixerEntry = PlugIn<Mixer, MixerShape>;
Registry<MixerEntry>& mixer_registry();

}  // namespace switchyard
