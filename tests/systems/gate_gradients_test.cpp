// Gradients of every gate recipe of systems.tsv against central differences in float64, the plan held fixed: steps of 1e-6 move
// no choice. Evaluation checks the output; training checks output and auxiliary losses, draws included.
#include "systems/gate_exemptions.h"
#include "systems/gate_subject.h"

#include <cmath>
#include <functional>

namespace switchyard::gate_gradients_test {  // its own: tests of a folder compile as one unit
namespace {

using namespace systems;

struct EveryGate : ::testing::TestWithParam<System> {
  ModelSpec spec = small_spec_of(GetParam());

  // Of all parameters of the layer and of its input.
  void expect_gradients(bool training) {
    const bool input = !is_exempt("InputGradients", GetParam().id);
    const Subject subject(spec);
    subject.layer().to(torch::kFloat64);
    auto in = call_of(2, 8, spec.d_model);
    if (training) in = in_training(in);
    in.hidden = in.hidden.to(torch::kFloat64).requires_grad_(input);
    const auto dy = normal_rows(16, spec.d_model, RandomStream(9)).to(torch::kFloat64);
    const auto loss = [&] {
      MoETrace trace;
      const auto y = (subject.forward(in, &trace) * dy).sum();
      return training ? y + subject.aux_loss(trace).to(torch::kFloat64) : y;
    };
    for (auto& item : subject.layer().named_parameters()) EXPECT_LT(gap_of(loss, item.value()), 1e-4) << item.key();
    if (input) {
      EXPECT_LT(gap_of(loss, in.hidden), 1e-4) << "hidden";
    }
  }

  // The largest gap over the largest gradient; what has no part in the call has no gradient, and no difference either.
  static double gap_of(const std::function<torch::Tensor()>& loss, torch::Tensor x) {
    constexpr double kStep = 1e-6, kScale = 1e-3;  // differences have an error of about 1e-16 / kStep times the loss
    x.mutable_grad() = torch::Tensor();
    if (const auto value = loss(); value.requires_grad()) value.backward();
    const auto grad = (x.grad().defined() ? x.grad() : torch::zeros_like(x)).detach().clone().view({-1});
    const c10::NoGradGuard no_grad;
    const double scale = std::max(kScale, grad.abs().max().item<double>());
    auto flat = x.view({-1});
    double worst = 0;
    for (int64_t probe = 0; probe < std::min<int64_t>(kProbes, flat.size(0)); ++probe) {
      const int64_t i = probe * flat.size(0) / std::min<int64_t>(kProbes, flat.size(0));
      const double before = flat[i].item<double>();
      const auto at_offset = [&](double h) {
        flat[i] = before + h;
        return loss().item<double>();
      };
      const double difference = (at_offset(kStep) - at_offset(-kStep)) / (2 * kStep);
      flat[i] = before;
      worst = std::max(worst, std::abs(difference - grad[i].item<double>()) / scale);
    }
    return worst;
  }
  static constexpr int64_t kProbes = 8;
};

struct Gradients : EveryGate {};
INSTANTIATE_TEST_SUITE_P(Gates, Gradients, ::testing::ValuesIn(gates_with("Gradients")), id_of);
TEST_P(Gradients, OfTheOutputMatchDifferences) { expect_gradients(false); }

struct TrainingGradients : EveryGate {};
INSTANTIATE_TEST_SUITE_P(Gates, TrainingGradients, ::testing::ValuesIn(gates_with("TrainingGradients")), id_of);
TEST_P(TrainingGradients, OfOutputAndLossesMatchDifferences) { expect_gradients(true); }

}  // namespace
}  // namespace switchyard::gate_gradients_test
