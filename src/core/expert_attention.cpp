#include "core/expert_attention.h"

#include "core/torch_compat.h"
#include "kernels/expert_attention.h"

#include <ATen/ATen.h>

namespace switchyard::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

struct ExpertAttention : torch::autograd::Function<ExpertAttention> {
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& qkv_in) {
    const auto qkv = qkv_in.contiguous();
    auto z = torch::empty({qkv.size(0), qkv.size(1) / 3}, qkv.options());
    kernels::expert_attention_forward(z.size(0), z.size(1), qkv.data_ptr<float>(), z.data_ptr<float>());
    ctx->save_for_backward({qkv, z});
    return z;
  }

  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto &qkv = saved[0], &z = saved[1];
    const auto dz = grads[0].contiguous();
    auto dqkv = torch::empty_like(qkv);
    kernels::expert_attention_backward(z.size(0), z.size(1), qkv.data_ptr<float>(), z.data_ptr<float>(), dz.data_ptr<float>(), dqkv.data_ptr<float>());
    return {dqkv};
  }
};

torch::Tensor reference(const torch::Tensor& qkv) {
  const auto part = qkv.view({qkv.size(0), 3, -1});
  const auto attention = at::softmax(part.select(1, 0).unsqueeze(2) * part.select(1, 1).unsqueeze(1), -1);  // [U, E, E]
  return at::matmul(attention, part.select(1, 2).unsqueeze(2)).squeeze(2);
}

}  // namespace

torch::Tensor expert_attention(const torch::Tensor& qkv) { return on_kernels(qkv) ? ExpertAttention::apply(qkv) : reference(qkv); }

}  // namespace switchyard::ops
