// Whom each token of a text chooses first: two of these, of one model at two times, tell how far its routing still moves
// (the routing fluctuation of arXiv:2204.08396).
#pragma once

#include "core/ops.h"
#include "data/token_file.h"
#include "switchyard/language_model.h"

#include <map>
#include <vector>

namespace switchyard {

struct FirstExpertOptions {
  int64_t seq_len = 256;
  int64_t max_tokens = 20000;  // about so many, in whole windows spread over the text
  bool cross_documents = false;
  ComputeType compute = ComputeType::float32;
};

using FirstExperts = std::map<int64_t, std::vector<int32_t>>;  // MoE layer -> expert per token, -1 = none

// In evaluation mode. Where a token does not rank experts (expert choice, soft slots, mixes) the one with the largest weight.
// Padding is left out. A dense model gives an empty map.
[[nodiscard]] FirstExperts first_experts(LanguageModel& model, const data::TokenStream& text, const FirstExpertOptions& options);

// Share of tokens whose first expert differs, per layer. Throws Error{usage} when they are not of the same tokens and layers.
[[nodiscard]] std::map<int64_t, double> changed_share(const FirstExperts& before, const FirstExperts& after);

}  // namespace switchyard
