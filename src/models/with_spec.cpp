#include "models/with_spec.h"

#include "base/config_tree.h"
#include "switchyard/error.h"

#include <c10/core/GradMode.h>
#include <fmt/ranges.h>

namespace switchyard {

std::shared_ptr<LanguageModel> with_spec(LanguageModel& model, const ModelSpec& spec) {
  auto other = std::make_shared<LanguageModel>(spec, std::nullopt);
  const c10::NoGradGuard no_grad;
  const auto weights = model.named_parameters();
  for (auto& item : other->named_parameters()) {
    const torch::Tensor* weight = weights.find(item.key());
    if (!weight) fail(ErrorKind::config, "the changed rules need the parameter {}, which the model has not", item.key());
    if (weight->sizes() != item.value().sizes())
      fail(ErrorKind::config, "the changed rules need the parameter {} in the shape [{}], the model has [{}]", item.key(), fmt::join(item.value().sizes(), ", "),
           fmt::join(weight->sizes(), ", "));
    item.value().set_data(*weight);
  }
  const auto buffers = model.named_buffers();
  for (auto& item : other->named_buffers())
    if (const torch::Tensor* buffer = buffers.find(item.key()); buffer && buffer->defined() && buffer->sizes() == item.value().sizes()) item.value().set_data(*buffer);
  other->eval();
  return other;
}

ModelSpec changed_spec(const ModelSpec& spec, std::span<const std::string> assignments) {
  ConfigNode root = write_any(spec);
  for (const auto& assignment : assignments) apply_override(root, assignment);
  return read_model_spec(root, "");
}

}  // namespace switchyard
