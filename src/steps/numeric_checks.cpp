#include "steps/numeric_checks.h"

#include "core/row_gradient.h"
#include "kernels/adamw.h"
#include "switchyard/error.h"

#include <cmath>

namespace switchyard {
namespace {

constexpr const char* kAdvice = "consider a lower learning rate, a longer warm-up, train.grad_clip or a router_z loss";

bool all_finite(const torch::Tensor& x) {
  if (!x.is_cpu()) return x.isfinite().all().item<bool>();
  return kernels::first_non_finite(x.numel(), x.contiguous().data_ptr<float>()) < 0;
}

// "layers.3 router logits reached 3.1e+04", of the layer with the first that are not finite, else of the largest.
std::string router_logits_found(std::span<const RoutingStats> stats) {
  std::string largest;
  double limit = 0;
  for (const RoutingStats& s : stats) {
    if (!s.scores.logits.defined() || s.scores.logits.numel() == 0) continue;
    const torch::Tensor logits = s.scores.logits.detach();
    if (!all_finite(logits)) return fmt::format("layers.{} router logits are not finite", s.layer);
    const double reached = logits.abs().max().item<double>();
    if (reached > limit) largest = fmt::format("layers.{} router logits reached {:.3g}", s.layer, limit = reached);
  }
  return largest;
}

// "parameter x is not finite", of the first one; "" when all are.
std::string parameter_found(const std::vector<TrainedParameter>& parameters) {
  for (const TrainedParameter& p : parameters)
    if (!all_finite(p.tensor.detach())) return fmt::format("parameter {} is not finite", p.name);
  return "";
}

}  // namespace

void check_loss(double loss, int64_t step, double last_loss, std::span<const RoutingStats> stats,
                const std::vector<TrainedParameter>& parameters) {
  if (std::isfinite(loss)) return;
  std::string found = parameter_found(parameters);
  if (found.empty()) found = router_logits_found(stats);
  if (found.empty()) found = "the parameters are finite, the logits overflow";
  fail(ErrorKind::numeric, "loss is {} at step {} (last finite {:.4g}): {}; {}", loss, step, last_loss, found, kAdvice);
}

void check_routing(std::span<const RoutingStats> stats, int64_t step, double last_loss, const std::vector<TrainedParameter>& parameters) {
  for (const RoutingStats& s : stats) {
    if (s.rows_without_score == 0) continue;
    const std::string found = parameter_found(parameters);
    fail(ErrorKind::numeric, "layers.{} router: {} of {} tokens have no finite score at step {} (last finite loss {:.4g}){}{}; {}", s.layer,
         s.rows_without_score, s.num_tokens, step, last_loss, found.empty() ? "" : ": ", found, kAdvice);
  }
}

void check_gradient(double norm, int64_t step, double loss, const std::vector<TrainedParameter>& parameters) {
  if (std::isfinite(norm)) return;
  for (const TrainedParameter& p : parameters)
    if (p.tensor.grad().defined() && !all_finite(gradient_values(p.tensor.grad())))
      fail(ErrorKind::numeric, "gradient of {} is not finite at step {} (loss {:.4g}); {}", p.name, step, loss, kAdvice);
  fail(ErrorKind::numeric, "the gradient norm overflows at step {} (loss {:.4g}); {}", step, loss, kAdvice);
}

void check_weights(int64_t step, const std::vector<TrainedParameter>& parameters) {
  if (const std::string found = parameter_found(parameters); !found.empty())
    fail(ErrorKind::numeric, "{} after step {}; {}", found, step, kAdvice);
}

}  // namespace switchyard
