// One telling patch among many: experts that keep their best patches against a CNN that sees all, at equal numbers of samples and
// filters. Source: arXiv:2306.04073, sections 4 and 5.
#include "vision/patch_experts.h"
#include "vision/patches.h"
#include "vision/task.h"
#include "vision/training.h"

#include "switchyard/error.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>

namespace switchyard {
namespace {

class PatchExpertsTask final : public Task {
 public:
  struct Options {
    int64_t experts = 4, filters = 8, keep = 2, patches = 16, train_samples = 200, test_samples = 2000, steps = 300, batch = 32;
    std::string training = "joint";
    bool routed = true, softmax_first = false;
    double lr = 0.5, noise = 0.1;
    template <class V> void fields(V&& v) {
      v("experts", experts, "that each keep patches of their own");
      v("filters", filters, "per expert");
      v("keep", keep, "l: patches that an expert sees");
      v("patches", patches, "n: of a sample, one of which tells its label");
      v("train_samples", train_samples, "to learn from");
      v("test_samples", test_samples, "to measure on");
      v("steps", steps, "of training");
      v("batch", batch, "samples per step");
      v("training", training, "joint, or separate: gates first, then experts");
      v("routed", routed, "false: the CNN that sees all patches");
      v("softmax_first", softmax_first, "weights by a softmax over all patches instead of the kept ones");
      v("lr", lr, "of gradient descent");
      v("noise", noise, "deviation of the noise of a patch");
    }
  };

  explicit PatchExpertsTask(const Options& o) : o_(o) {
    if (o.training != "joint" && o.training != "separate") fail(ErrorKind::config, "task pmoe: training = '{}', expected joint or separate", o.training);
    for (const auto& [key, value] : {std::pair{"train_samples", o.train_samples}, {"test_samples", o.test_samples}, {"steps", o.steps}, {"batch", o.batch}, {"patches", o.patches}})
      if (value < 1) fail(ErrorKind::config, "task pmoe: {} = {}, expected at least 1", key, value);
  }

  std::vector<Measure> run(const TaskRun& run) override {
    const vision::OnePatch data(run.seed, o_.patches, 24, 12, o_.noise);
    const auto train = data.draw("train", o_.train_samples), test = data.draw("test", o_.test_samples);
    vision::PatchExperts model({.experts = o_.experts, .filters = o_.filters, .keep = o_.keep, .softmax_first = o_.softmax_first, .routed = o_.routed}, data.patches(),
                               data.width(), run.seed);
    if (o_.training == "separate") model.train_gates(train.x, train.labels, 100);
    vision::Sgd sgd(o_.training == "separate" ? std::vector<torch::Tensor>{model.filters()} : model.parameters(), {.lr = o_.lr});
    const int64_t steps = run.steps > 0 ? run.steps : o_.steps;
    for (int64_t step = 0; step < steps; ++step) {
      const auto batch = vision::mini_batch(RandomStream(run.seed, "pmoe"), step, o_.train_samples, o_.batch);
      sgd.clear();
      const auto y = (2 * train.labels.index_select(0, batch) - 1).to(torch::kFloat32);
      const auto loss = at::softplus(-y * model.forward(train.x.index_select(0, batch))).mean();
      if (!std::isfinite(loss.item<double>())) fail(ErrorKind::numeric, "task pmoe: the loss is {} at step {}; consider a lower lr", loss.item<double>(), step + 1);
      loss.backward();
      sgd.step();
      if (step % 100 == 99) run.say(fmt::format("step {}: loss {:.4f}", step + 1, loss.item<double>()));
    }
    const c10::NoGradGuard no_grad;
    const double right = ((model.forward(test.x) > 0) == (test.labels == 1)).to(torch::kFloat64).mean().item<double>();
    const double found = (model.route(test.x).kept == test.cluster.view({-1, 1, 1})).any(2).any(1).to(torch::kFloat64).mean().item<double>();
    return {{"test_accuracy", right}, {"telling_patch_kept", o_.routed ? found : 1}, {"flops_per_sample", model.flops_per_sample()}};
  }

 private:
  Options o_;
};

}  // namespace

TaskEntry task_pmoe() { return plug_in<PatchExpertsTask, TaskEntry>("pmoe", "arXiv:2306.04073", "one telling patch among many: experts that keep their best patches"); }

}  // namespace switchyard
