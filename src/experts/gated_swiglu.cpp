// A SwiGLU is the gate: E(x) = ((x W_a^T) * silu(x W_b^T) * (x W_u^T)) W_out^T, W_in [E, 3f, d] with rows of a, b and u in this order.
// The network of the released OpenMoE weights (arXiv:2402.01739): their code has SwiGLU as the activation of a network that is
// gated already, so that the gate is twice as wide as the rest.
#include "core/ffn_bank.h"

#include <ATen/ATen.h>

namespace switchyard {
namespace {

FfnForm gated_swiglu(const FfnOptions&) {
  return {.phi = "silu", .gated = true, .further = 1, .before = [](const torch::Tensor& z) {
            const auto parts = z.chunk(3, 1);
            return at::cat({parts[1], parts[0] * parts[2]}, 1);
          }};
}

}  // namespace

ExpertEntry expert_gated_swiglu() { return ffn_entry<FfnOptions>("gated_swiglu", "arXiv:2402.01739", "four matrices, a SwiGLU as the gate", gated_swiglu); }

}  // namespace switchyard
