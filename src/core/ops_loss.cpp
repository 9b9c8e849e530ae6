#include "core/beside.h"
#include "core/ops.h"
#include "core/torch_compat.h"
#include "kernels/cross_entropy.h"
#include "switchyard/error.h"

#include <ATen/ATen.h>

namespace switchyard::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

struct CrossEntropy : torch::autograd::Function<CrossEntropy> {
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& logits_in, const torch::Tensor& labels) {
    const auto logits = logits_in.contiguous();
    const auto tokens = logits.size(0), vocab = logits.size(1);
    auto loss = torch::empty({tokens}, logits.options()), lse = torch::empty({tokens}, logits.options());
    kernels::cross_entropy_forward(tokens, vocab, {logits.data_ptr<float>(), vocab}, labels.data_ptr<int64_t>(), nullptr, loss.data_ptr<float>(), lse.data_ptr<float>());
    ctx->save_for_backward({logits, labels, lse});
    return loss;
  }

  // The gradient of each token's loss comes as a weight per token, so that any mean or mask over tokens works.
  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto s = ctx->get_saved_variables();
    const auto &logits = s[0], &labels = s[1], &lse = s[2];
    const auto weight = grads[0].contiguous();
    const auto tokens = logits.size(0), vocab = logits.size(1);
    auto dlogits = torch::empty_like(logits);
    kernels::cross_entropy_backward(tokens, vocab, {logits.data_ptr<float>(), vocab}, labels.data_ptr<int64_t>(), weight.data_ptr<float>(), lse.data_ptr<float>(), 1.0f,
                                    {dlogits.data_ptr<float>(), vocab});
    return {dlogits, {}};
  }
};

}  // namespace

torch::Tensor cross_entropy(const torch::Tensor& logits, const torch::Tensor& labels_in) {
  const auto labels = labels_in.contiguous();
  if (const auto bad = kernels::first_label_outside(logits.size(0), logits.size(1), labels.data_ptr<int64_t>()); bad >= 0)
    fail(ErrorKind::checkpoint, "token {} of the batch is {}, the vocabulary has {} tokens", bad, labels[bad].item<int64_t>(), logits.size(1));
  if (on_kernels(logits)) return CrossEntropy::apply(logits, labels);
  const auto targets = beside(logits, labels);
  const auto picked = at::log_softmax(logits, -1).gather(1, targets.clamp_min(0).unsqueeze(1)).squeeze(1);
  return at::where(targets >= 0, -picked, torch::zeros({}, logits.options()));
}

}  // namespace switchyard::ops
