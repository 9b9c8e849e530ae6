#include "core/hopfield.h"

#include "core/ops.h"

#include <ATen/ATen.h>

namespace switchyard::hopfield {
namespace {

torch::Tensor products(const torch::Tensor& states, const torch::Tensor& patterns, double beta) {
  return ops::linear(states.contiguous(), patterns.contiguous(), /*exact=*/true) * beta;
}

}  // namespace

torch::Tensor association(const torch::Tensor& states, const torch::Tensor& patterns, double beta) {
  return at::softmax(products(states, patterns, beta), -1);
}

torch::Tensor update(const torch::Tensor& states, const torch::Tensor& patterns, double beta) {
  return at::matmul(association(states, patterns, beta), patterns);
}

torch::Tensor energy(const torch::Tensor& states, const torch::Tensor& patterns, double beta) {
  return states.square().sum(-1) / 2 - at::logsumexp(products(states, patterns, beta), -1) / beta;
}

}  // namespace switchyard::hopfield
