// Which neurons of a dense network become one expert, by what they are or do:
//
//   random        any f / N
//   clusters      k-means over their rows of W_in (of W_g, when gated)
//   coactivation  k-means over their activations on a text, each scaled to length 1: neurons that fire on the same tokens
//   gradient      k-means over |h dL/dh| on a text, scaled alike: neurons that the loss needs for the same tokens
//
// All sets have the same size (models/slice_network.h). Departs from LLaMA-MoE: its gradient split lets experts of one domain share
// neurons or cuts out a residual part; here sets are disjoint. Sources: arXiv:2406.16554 section 3.1, arXiv:2110.01786 section 3.2.
#pragma once

#include "eval/visit_windows.h"
#include "models/slice_network.h"

namespace switchyard {

// [layer]. `text` may be null for the methods that need none. Throws Error{usage} for an unknown method or a missing text,
// Error{unsupported} for networks of other kinds, Error{config} when num_experts does not divide d_ff.
[[nodiscard]] std::vector<NeuronSets> slice_sets(LanguageModel& dense, const std::string& method, int64_t num_experts, uint64_t seed, const data::TokenStream* text = nullptr,
                                                 const WindowOptions& windows = {.max_tokens = 2000});

}  // namespace switchyard
