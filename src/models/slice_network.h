// Experts from the neurons of dense networks: each layer's f inner neurons are split into N disjoint sets of f / N, and expert e is
// the network of set e,
//
//   W_g^e = W_g[S_e, :]     W_u^e = W_u[S_e, :]     W_d^e = W_d[:, S_e]        so that sum_e E_e(x) = FFN(x)
//
// Source: LLaMA-MoE, arXiv:2406.16554 section 3.1; MoEfication, arXiv:2110.01786.
#pragma once

#include "switchyard/language_model.h"
#include "switchyard/random.h"

#include <map>
#include <memory>
#include <vector>

namespace switchyard {

using NeuronSets = std::vector<std::vector<int64_t>>;  // [N][f / N], rising within a set

// Throws Error{config} when num_experts does not divide the neurons.
[[nodiscard]] NeuronSets random_sets(int64_t neurons, int64_t num_experts, const RandomStream& random);

// k-means with clusters of equal size over features [neurons, n]: each round is the assignment of least total distance
// (kernels/balanced_assignment.h). Features that are equal for all give sets all the same.
[[nodiscard]] NeuronSets balanced_clusters(const torch::Tensor& features, int64_t num_experts, const RandomStream& random, int64_t rounds = 10);

struct SliceOptions {
  int64_t num_experts = 8, top_k = 2;
  double scale = 0;        // of the routed sum; 0 = num_experts / top_k, what makes the weights sum to those of the dense network
  uint64_t seed = 0;       // of the gate
};

// The specification with experts in all layers: gate Linear -> tanh -> Linear with learned noise, softmax over the kept, losses
// importance and load. Throws Error{unsupported} for a model that has experts, a pattern or mixtures, or networks with offsets.
[[nodiscard]] ModelSpec sliced_spec(const ModelSpec& dense, const SliceOptions& options);

// Weights of the networks by `sets` [layer], all else as it is, the gates new.
[[nodiscard]] std::shared_ptr<LanguageModel> slice_networks(LanguageModel& dense, const SliceOptions& options, const std::vector<NeuronSets>& sets);

// The way back: the dense w_in [1, f, 2f or more, d] and w_out [1, d, f] from those of the experts, bit for bit.
struct DenseNetwork {
  torch::Tensor w_in, w_out;
};
[[nodiscard]] DenseNetwork joined_slices(const torch::Tensor& w_in, const torch::Tensor& w_out, const NeuronSets& sets);

// The dense model of which all layers' experts are slices: its networks are the experts side by side, so that each neuron has weight 1.
// Gates, the scale of the routed sum and losses have no place in it. Throws Error{unsupported} for a model whose layers are not all attention
// and experts that make up a network of one width.
[[nodiscard]] ModelSpec joined_spec(const ModelSpec& sliced);
// Neurons in the order of the experts: those of a network may be renamed without changing what it computes.
[[nodiscard]] std::shared_ptr<LanguageModel> join_networks(LanguageModel& sliced);

}  // namespace switchyard
