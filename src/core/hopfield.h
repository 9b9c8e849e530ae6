// Modern Hopfield network: retrieval from stored patterns as a descent on an energy.
//   xi' = sum_i softmax_i(beta <m_i, xi>) m_i          E(xi) = -ln(sum_i exp(beta <m_i, xi>)) / beta + <xi, xi> / 2
// Every update lowers the energy or leaves it; for beta -> infinity one update gives the stored pattern of the largest product,
// and well separated patterns of one length are fixed points. Source: Ramsauer et al., arXiv:2008.02217 theorems 1 and 4.
#pragma once

#include <torch/types.h>

namespace switchyard::hopfield {

// How much of each stored pattern comes back: states [Q, d], patterns [P, d] -> [Q, P], rows sum to 1.
[[nodiscard]] torch::Tensor association(const torch::Tensor& states, const torch::Tensor& patterns, double beta);

// One update of each state: [Q, d].
[[nodiscard]] torch::Tensor update(const torch::Tensor& states, const torch::Tensor& patterns, double beta);

// [Q], up to a constant.
[[nodiscard]] torch::Tensor energy(const torch::Tensor& states, const torch::Tensor& patterns, double beta);

}  // namespace switchyard::hopfield
