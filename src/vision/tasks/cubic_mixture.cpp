// The theorem as an experiment: clusters of patches that a mixture of nonlinear experts tells apart, and a single network or a mixture
// of linear ones does not. Source: arXiv:2208.02813, section 6 and the settings of its released code.
#include "vision/cubic_mixture.h"

#include "vision/patches.h"
#include "vision/task.h"
#include "vision/training.h"

#include "switchyard/error.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>

namespace switchyard {
namespace {

class CubicMixtureTask final : public Task {
 public:
  struct Options {
    int64_t experts = 8, filters = 8, train_samples = 16000, test_samples = 16000, steps = 500;
    bool linear = false;
    double expert_lr = 1e-3, router_lr = 0.1;
    template <class V> void fields(V&& v) {
      v("experts", experts, "M; 1 = a single network");
      v("filters", filters, "per class and expert");
      v("train_samples", train_samples, "all of them in every step");
      v("test_samples", test_samples, "to measure on");
      v("steps", steps, "of training");
      v("linear", linear, "experts without the cube, the control");
      v("expert_lr", expert_lr, "length of the step of each expert");
      v("router_lr", router_lr, "of the router");
    }
  };

  explicit CubicMixtureTask(const Options& o) : o_(o) {
    for (const auto& [key, value] : {std::pair{"experts", o.experts}, {"filters", o.filters}, {"train_samples", o.train_samples}, {"test_samples", o.test_samples}, {"steps", o.steps}})
      if (value < 1) fail(ErrorKind::config, "task cubic_mixture: {} = {}, expected at least 1", key, value);
  }

  std::vector<Measure> run(const TaskRun& run) override {
    const vision::ClusterPatches data(run.seed);
    const auto train = data.draw("train", o_.train_samples), test = data.draw("test", o_.test_samples);
    vision::CubicMixture model({.experts = o_.experts, .filters = o_.filters, .linear = o_.linear}, data.width(), run.seed);
    vision::Sgd router({model.router()}, {.lr = o_.router_lr});
    const double before = measured(model, test).entropy;
    const int64_t steps = run.steps > 0 ? run.steps : o_.steps;
    for (int64_t step = 0; step < steps; ++step) {
      const auto noise = vision::uniform(RandomStream(run.seed, "router noise").at("step", static_cast<uint64_t>(step)), {o_.train_samples, o_.experts});
      vision::clear_gradients(model.parameters());
      const auto loss = vision::cross_entropy(model.forward(train.x, noise).scores, train.labels);
      loss.backward();
      vision::normalised_step(model.filters(), o_.expert_lr);
      router.step();
      if (step % 50 == 49) run.say(fmt::format("step {}: loss {:.4f}", step + 1, loss.item<double>()));
    }
    const auto end = measured(model, test);
    return {{"test_accuracy", end.accuracy}, {"routing_entropy_given_cluster", end.entropy}, {"routing_entropy_at_start", before}};
  }

 private:
  struct Measured {
    double accuracy = 0, entropy = 0;
  };

  // H(expert | cluster) in nats of the choices with the noise of training (at the start it alone decides).
  [[nodiscard]] Measured measured(vision::CubicMixture& model, const vision::PatchSamples& test) const {
    const c10::NoGradGuard no_grad;
    const auto noise = vision::uniform(RandomStream(0, "test noise"), {test.x.size(0), o_.experts});
    auto joint = torch::zeros({4, o_.experts}, torch::kFloat64);
    joint.view({-1}).index_add_(0, test.cluster * o_.experts + model.forward(test.x, noise).choice, torch::ones({test.x.size(0)}, torch::kFloat64));
    const auto p = joint / joint.sum(), within = p / p.sum(1, true);
    return {vision::accuracy(model.forward(test.x).scores, test.labels), -(p * within.clamp_min(1e-300).log()).sum().item<double>()};
  }

  Options o_;
};

}  // namespace

TaskEntry task_cubic_mixture() {
  return plug_in<CubicMixtureTask, TaskEntry>("cubic_mixture", "arXiv:2208.02813", "clusters of patches: a top-1 mixture of cubic CNNs, the theory model");
}

}  // namespace switchyard
