#include "steps/parameters.h"

#include "kernels/adamw.h"
#include "switchyard/error.h"

#include <cmath>
#include <unordered_set>

namespace switchyard {
namespace {

bool weight_decay_applies(const std::string& name, const torch::Tensor& tensor, const OptimizerOptions& options) {
  if (tensor.dim() < 2) return false;
  if (name == "embed" || name == "head") return options.decay_embeddings;
  if (name.find(".gate.") != std::string::npos) return options.decay_router;
  return true;
}

}  // namespace

std::vector<TrainedParameter> trained_parameters(LanguageModel& model, const OptimizerOptions& options) {
  std::vector<TrainedParameter> out;
  std::unordered_set<const void*> seen;
  for (const auto& item : model.named_parameters()) {
    const torch::Tensor& tensor = item.value();
    if (!tensor.requires_grad() || !seen.insert(tensor.unsafeGetTensorImpl()).second) continue;
    if (tensor.scalar_type() != torch::kFloat32 || !tensor.is_contiguous())
      fail(ErrorKind::internal, "parameter {} is not a contiguous float32 tensor", item.key());
    out.push_back({item.key(), tensor, weight_decay_applies(item.key(), tensor, options)});
  }
  return out;
}

void clear_gradients(const std::vector<TrainedParameter>& parameters) {
  for (const TrainedParameter& p : parameters) p.tensor.mutable_grad() = torch::Tensor();
}

double gradient_norm(const std::vector<TrainedParameter>& parameters) {
  double sum = 0;
  for (const TrainedParameter& p : parameters)
    if (const torch::Tensor& g = p.tensor.grad(); g.defined()) sum += kernels::sum_of_squares(g.numel(), g.contiguous().data_ptr<float>());
  return std::sqrt(sum);
}

double clip_factor(double norm, double limit) { return limit > 0 && norm > limit ? limit / norm : 1.0; }

}  // namespace switchyard
