#include "models/checkpointed_block.h"

#include "core/ops.h"

#include <ATen/core/ivalue.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

namespace switchyard {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

size_t index_of(const torch::Tensor& tensor, const tensor_list& list) {
  const auto found = std::find_if(list.begin(), list.end(), [&](const torch::Tensor& other) { return other.is_same(tensor); });
  return static_cast<size_t>(found - list.begin());
}

// All that the second pass needs besides x.
struct Recomputation : torch::CustomClassHolder {
  std::shared_ptr<StackLayer> block;
  CallContext call;
  ComputeType compute;

  // {hidden, what the losses read...}, each tensor once.
  [[nodiscard]] tensor_list run(const torch::Tensor& x, BlockTrace& trace) const {
    const ComputeScope scope(compute);
    tensor_list out{block->forward(x, call, nullptr, trace)};
    for (const torch::Tensor* tensor : trace.differentiable())
      if (index_of(*tensor, out) == out.size()) out.push_back(*tensor);
    return out;
  }
};

struct CheckpointedBlock : torch::autograd::Function<CheckpointedBlock> {
  // The parameters are inputs only so that their gradients have a way out.
  static tensor_list forward(AutogradContext* ctx, const torch::Tensor& x, at::TensorList parameters, const c10::intrusive_ptr<Recomputation>& work,
                             BlockTrace* trace) {
    ctx->save_for_backward({x});
    ctx->saved_data["work"] = c10::IValue::make_capsule(work);
    ctx->set_materialize_grads(false);
    return work->run(x, *trace);
  }

  static tensor_list backward(AutogradContext* ctx, tensor_list grads) {
    const auto capsule = ctx->saved_data["work"].toCapsule();
    const auto& work = static_cast<const Recomputation&>(*capsule);
    const auto saved = ctx->get_saved_variables()[0];
    const auto parameters = work.block->parameters();
    const at::AutoGradMode enable(true);
    const auto x = saved.detach().requires_grad_(saved.requires_grad());
    BlockTrace trace;
    const auto outputs = work.run(x, trace);

    tensor_list roots, root_grads;
    for (size_t i = 0; i < outputs.size(); ++i)
      if (grads[i].defined() && outputs[i].requires_grad()) {
        roots.push_back(outputs[i]);
        root_grads.push_back(grads[i]);
      }
    tensor_list leaves;
    if (x.requires_grad()) leaves.push_back(x);
    for (const auto& p : parameters)
      if (p.requires_grad()) leaves.push_back(p);
    const auto found = torch::autograd::grad(roots, leaves, root_grads, /*retain_graph=*/false, /*create_graph=*/false, /*allow_unused=*/true);

    tensor_list result;
    size_t next = 0;
    result.push_back(x.requires_grad() ? found[next++] : torch::Tensor());
    for (const auto& p : parameters) result.push_back(p.requires_grad() ? found[next++] : torch::Tensor());
    result.resize(result.size() + 2);  // `work` and `trace`
    return result;
  }
};

}  // namespace

torch::Tensor checkpointed_forward(const std::shared_ptr<StackLayer>& block, const torch::Tensor& x, const CallContext& call, BlockTrace& trace) {
  auto work = c10::make_intrusive<Recomputation>();
  work->block = block;
  work->call = call;
  work->compute = ComputeScope::current();
  const auto out = CheckpointedBlock::apply(x, at::TensorList(block->parameters()), work, &trace);
  // What the losses will read must be the outputs of this node, not the tensors of the pass without gradients.
  tensor_list made{out[0]};
  for (const torch::Tensor* tensor : trace.differentiable())
    if (index_of(*tensor, made) == made.size()) made.push_back(*tensor);
  for (torch::Tensor* tensor : trace.differentiable()) *tensor = out[index_of(*tensor, made)];
  return out[0];
}

}  // namespace switchyard
