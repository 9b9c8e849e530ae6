#include "steps/parameters.h"

#include "core/row_gradient.h"
#include "kernels/adamw.h"
#include "switchyard/error.h"

#include <fmt/ranges.h>

#include <cmath>
#include <regex>
#include <unordered_set>

namespace switchyard {
namespace {

bool weight_decay_applies(const std::string& name, const torch::Tensor& tensor, const OptimizerOptions& options) {
  const int64_t stacked = name.find(".experts.") == std::string::npos ? 0 : 1;  // over the experts
  if (tensor.dim() - stacked < 2) return false;
  if (name == "embed" || name == "head") return options.decay_embeddings;
  if (is_router(name)) return options.decay_router;
  return true;
}

// The expressions of one option over all names; each must be found somewhere.
class Names {
 public:
  Names(const char* key, const std::vector<std::string>& patterns) : key_(key) {
    for (const auto& text : patterns) {
      try {
        patterns_.push_back({text, std::regex(text)});
      } catch (const std::regex_error& error) {
        fail(ErrorKind::config, "train.optimizer.{}: '{}' is no regular expression: {}", key, text, error.what());
      }
    }
  }
  [[nodiscard]] bool match(const std::string& name) {
    bool any = false;
    for (auto& p : patterns_) {
      const bool found = std::regex_search(name, p.expression);
      p.used = p.used || found;
      any = any || found;
    }
    return any;
  }
  void check_used(const std::vector<std::string>& names) const {
    for (const auto& p : patterns_)
      if (!p.used) fail(ErrorKind::config, "train.optimizer.{}: '{}' is found in no parameter; names are such as {}", key_, p.text, fmt::join(names, ", "));
  }

 private:
  struct Pattern {
    std::string text;
    std::regex expression;
    bool used = false;
  };
  const char* key_;
  std::vector<Pattern> patterns_;
};

}  // namespace

bool is_router(const std::string& name) { return name.find(".gate.") != std::string::npos; }

void freeze_parameters(LanguageModel& model, const OptimizerOptions& options) {
  if (options.train_only.empty() && options.freeze.empty()) return;
  Names wanted("train_only", options.train_only), frozen("freeze", options.freeze);
  std::vector<std::string> some;  // for the message: a name of each kind is enough
  bool any = false;
  for (const auto& item : model.named_parameters()) {
    const bool in = wanted.match(item.key()), out = frozen.match(item.key());
    const bool trains = (options.train_only.empty() || in) && !out;
    item.value().requires_grad_(trains);
    any = any || trains;
    constexpr size_t kListed = 12;
    if (some.size() < kListed) some.push_back(item.key());
  }
  wanted.check_used(some);
  frozen.check_used(some);
  if (!any) fail(ErrorKind::config, "train.optimizer: train_only and freeze leave no parameter to train");
}

std::vector<TrainedParameter> trained_parameters(LanguageModel& model, const OptimizerOptions& options) {
  std::vector<TrainedParameter> out;
  std::unordered_set<const void*> seen;
  for (const auto& item : model.named_parameters()) {
    const torch::Tensor& tensor = item.value();
    if (!tensor.requires_grad() || !seen.insert(tensor.unsafeGetTensorImpl()).second) continue;
    if (tensor.scalar_type() != torch::kFloat32 || !tensor.is_contiguous())
      fail(ErrorKind::internal, "parameter {} is not a contiguous float32 tensor", item.key());
    out.push_back({item.key(), tensor, weight_decay_applies(item.key(), tensor, options), is_router(item.key()) ? options.router_lr_scale : 1.0});
  }
  return out;
}

void clear_gradients(const std::vector<TrainedParameter>& parameters) {
  for (const TrainedParameter& p : parameters) p.tensor.mutable_grad() = torch::Tensor();
}

double gradient_norm(const std::vector<TrainedParameter>& parameters) {
  double sum = 0;
  for (const TrainedParameter& p : parameters)
    if (p.tensor.grad().defined() && p.lr_scale != 0) {
      const auto values = gradient_values(p.tensor.grad());
      sum += values.is_cpu() ? kernels::sum_of_squares(values.numel(), values.data_ptr<float>()) : values.square().sum(torch::kFloat64).item<double>();
    }
  return std::sqrt(sum);
}

double clip_factor(double norm, double limit) { return limit > 0 && norm > limit ? limit / norm : 1.0; }

}  // namespace switchyard
