// Which of the single-neuron experts of PEER layers (experts/peer.h) a text looks up, and how evenly.
//
//   used = share of experts that any token looked up        unevenness = KL(z || uniform) = ln N - H(z), z_e ~ sum of e's weights
//
// Source: arXiv:2407.04153 section 3.3; arXiv:1907.05242 section 4.5. Without query normalisation few are used.
#pragma once

#include "eval/visit_windows.h"

#include <map>
#include <string>

namespace switchyard {

struct RetrievalUsage {
  torch::Tensor reads;   // [N] int64: how often each expert was looked up
  torch::Tensor weight;  // [N] float64: sum of its weights

  [[nodiscard]] double used() const;
  [[nodiscard]] double unevenness() const;  // nats; 0 = even, ln N = one expert has it all; NaN when nothing has weight
};

// By the name of the layer's module (layers.1.ffn); empty without PEER layers. Padding counts nowhere.
[[nodiscard]] std::map<std::string, RetrievalUsage> retrieval_usage(LanguageModel& model, const data::TokenStream& text, const WindowOptions& options);

}  // namespace switchyard
