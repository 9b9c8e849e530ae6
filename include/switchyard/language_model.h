// A transformer with Mixture-of-Experts layers, built from a ModelSpec: a decoder, or a decoder behind an encoder.
#pragma once

#include "switchyard/mixer.h"
#include "switchyard/model_spec.h"
#include "switchyard/moe.h"

#include <torch/nn/module.h>

#include <map>
#include <memory>
#include <optional>
#include <vector>

namespace switchyard {

// What the mixers keep of the tokens seen so far: of attention keys and values [B, capacity, G, c], of which the first `length`
// are set; of a state space its state. Nothing of a layer without a mixer. States lie on `device`, that of the model.
class KvCache {
 public:
  KvCache(const ModelSpec& spec, int64_t batch, int64_t capacity, torch::Device device = torch::kCPU);
  int64_t length = 0;
  std::vector<std::vector<torch::Tensor>> states;  // by layer, as Mixer::new_state makes them
  torch::Tensor segments;  // [B, capacity] int32; -1 hides a position (padding)
  torch::Tensor token_ids;  // [B, capacity] int64
  std::vector<torch::Tensor> mixes;  // by layer [B, E]: weights of the merged experts, or of the copy, of this text; undefined = none
};

// Everything a layer did, for porters, traces and the report. Filled only when asked for.
struct ModelTrace {
  std::vector<torch::Tensor> hidden_states;        // what enters layer 0, then the output of each layer; the last one after the final norm
  std::map<int64_t, MoETrace> moe;                 // by layer
  std::map<int64_t, MixerTrace> mixer;             // likewise, of mixers with experts
  std::map<int64_t, torch::Tensor> moe_input, moe_output;
  torch::Tensor last_layer_output;                 // before the final norm
  std::shared_ptr<ModelTrace> encoder;             // of a model that has one
};

struct ForwardOptions {
  int64_t step = 0;            // names the random streams of noise and dropout
  int64_t first_token = 0;     // index of the first token of this call within the step (micro-batches, ranks)
  uint64_t seed = 0;
  KvCache* cache = nullptr;    // tokens are appended; such a call carries no gradient
  PagedCache* paged = nullptr;  // the tokens are what it was told by begin(); batch.input_ids and positions are ignored
  ModelTrace* trace = nullptr;
  bool checkpoint_activations = false;  // keep only block inputs; recompute the rest in backward
};

struct TokenBatch {
  torch::Tensor input_ids;  // [B, S] int64
  torch::Tensor positions;  // [B, S] int64; undefined = 0, 1, 2, ...
  torch::Tensor segments;   // [B, S] int32; undefined = one document; -1 = padding
  torch::Tensor tags = {};  // [B, S] int64: domain, language or task of each token, for gates that ask; undefined = none
  // What a model with an encoder reads first: [B, Sm] int64, and segments as above. Not needed by later calls with the same cache.
  torch::Tensor source_ids = {}, source_segments = {};
};

struct ModelOutput {
  torch::Tensor hidden;             // [B, S, d] after the final norm
  std::vector<RoutingStats> stats;  // one per MoE layer, with gradient; none of a call with a cache that asks for no trace
  std::vector<RoutingStats> mixer_stats = {};  // one per mixer with experts
  std::vector<MixtureStats> mixtures = {};  // one per mixture, layer and site, in the order of LanguageModel::mixtures()
  std::shared_ptr<ModelOutput> encoder = {};   // of a model that has one, when it ran in this call
};

class LanguageModel : public torch::nn::Module {
 public:
  // Builds and initialises; the parameters are a pure function of (spec, seed). Without a seed the large matrices are zero:
  // for a checkpoint that fills them.
  explicit LanguageModel(const ModelSpec& spec, std::optional<uint64_t> seed = 0) : LanguageModel(spec, seed, {}) {}

  [[nodiscard]] ModelOutput forward(const TokenBatch& batch, const ForwardOptions& options = {});
  // hidden [..., d] -> logits [..., vocab_size] float32.
  [[nodiscard]] torch::Tensor logits(const torch::Tensor& hidden);

  // Packs the large matrices (experts, the linears of mixers, the output layer) for a model that only computes forward from now on:
  // float32, bfloat16, int8 or int4 as in src/kernels/packed/format.h. Embeddings, norms, routers and what has no packed form stay
  // float32. What is packed already is left as it is.
  void pack_weights(const std::string& format);
  // What pack_weights packs, the output layer left out when it is the embedding.
  [[nodiscard]] std::vector<Packable> packable();

  // Moves embeddings, mixers, experts, norms and the output layer to a device, where forward then computes in libtorch's operations;
  // routers stay on the CPU, and so do ids, positions, routes and the statistics of routing. Hidden states and logits lie on the
  // device. For a model without packed weights; an optimiser is made afterwards.
  void to_device(torch::Device device);
  [[nodiscard]] torch::Device device() const;

  // Why several sequences cannot go through the model in one call on a paged cache; empty if they can.
  [[nodiscard]] std::string paging_obstacle();

  [[nodiscard]] const ModelSpec& spec() const { return spec_; }
  [[nodiscard]] LanguageModel* encoder() const { return encoder_.get(); }  // null in a model of one stack
  // The losses of the MoE layers; with the whole output also over the routers of mixers, and those of the mixtures, which are named
  // mixtures[i].<loss>.
  [[nodiscard]] AuxLoss aux_loss(const std::vector<RoutingStats>& stats) const;
  [[nodiscard]] AuxLoss aux_loss(const ModelOutput& output) const;
  [[nodiscard]] std::vector<std::pair<int64_t, MoELayer*>> moe_layers();  // {layer, module}
  [[nodiscard]] std::vector<MoELayer*> mixtures();                        // at the sites of the blocks, layer by layer

 private:
  // With an `embed` [V, d] that belongs to another model: an encoder shares that of its decoder.
  LanguageModel(const ModelSpec& spec, std::optional<uint64_t> seed, const torch::Tensor& embed);
  void read_source(CallContext& call, const TokenBatch& batch, const ForwardOptions& options, ModelOutput& out);

  struct Impl;
  ModelSpec spec_;
  std::shared_ptr<LanguageModel> encoder_;
  std::shared_ptr<Impl> impl_;
};

}  // namespace switchyard
