// Self-contrast decoding: what the experts that routing passes over would say tells what to say less of.
//
//   z = (1 + beta) z_strong - beta z_weak   where z_strong >= max z_strong + ln alpha,   -inf elsewhere
//
// strong: the trained routing; weak: the same weights with only the experts at the given ranks. Two passes, two caches, no
// training. Source: SCMoE, arXiv:2405.14507 section 3 (beta 0.5, alpha 0.1, the second expert alone).
#pragma once

#include "switchyard/language_model.h"

#include <memory>
#include <span>
#include <vector>

namespace switchyard {

struct ContrastOptions {
  double beta = 0;  // 0 = off
  double alpha = 0.1;
  std::vector<int64_t> ranks = {2};  // of the weak pass, 1 = the best expert
};

// Throws Error{usage} for beta < 0, alpha outside (0, 1].
void check_contrast(const ContrastOptions& options);

// strong and weak [V] -> z [V].
[[nodiscard]] std::vector<float> contrast(std::span<const float> strong, std::span<const float> weak, double beta, double alpha);

// A model that shares the weights of `model` and sends each token to its experts at `ranks` alone, weighed by the rule that
// the model has. Throws Error{unsupported} unless every token chooses its k best experts (gates top_k, and chain with
// select = "top_k"), Error{config} for ranks that there are no experts for.
[[nodiscard]] std::shared_ptr<LanguageModel> with_ranks(LanguageModel& model, const std::vector<int64_t>& ranks);

}  // namespace switchyard
