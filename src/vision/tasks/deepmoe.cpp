// Small pictures through a network whose channels are gated by an embedding of the picture: how much arithmetic is left at which accuracy.
// Joint training with a price on gates, then the base network alone with gates frozen. Source: arXiv:1806.01531 section 3.
#include "vision/channel_bank.h"
#include "vision/images.h"
#include "vision/task.h"
#include "vision/training.h"

#include "switchyard/error.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

namespace switchyard {
namespace {

class DeepMoeTask final : public Task {
 public:
  struct Options {
    int64_t classes = 4, train_samples = 500, test_samples = 500, steps = 200, tuning_steps = 50, batch = 32;
    bool gated = true;
    double lambda = 2e-3, mu = 1.0, lr = 0.03;
    template <class V> void fields(V&& v) {
      v("classes", classes, "of pictures");
      v("train_samples", train_samples, "to learn from");
      v("test_samples", test_samples, "to measure on");
      v("steps", steps, "of joint training");
      v("tuning_steps", tuning_steps, "of the base network behind it, gates frozen");
      v("batch", batch, "samples per step");
      v("gated", gated, "false: the base network");
      v("lambda", lambda, "price of a gate: weight of the sum of all gates of a sample");
      v("mu", mu, "weight of the loss of the embedding");
      v("lr", lr, "of gradient descent with momentum 0.9");
    }
  };

  explicit DeepMoeTask(const Options& o) : o_(o) {
    for (const auto& [key, value] : {std::pair{"classes", o.classes}, {"train_samples", o.train_samples}, {"test_samples", o.test_samples}, {"steps", o.steps}, {"batch", o.batch}})
      if (value < 1) fail(ErrorKind::config, "task deepmoe: {} = {}, expected at least 1", key, value);
  }

  std::vector<Measure> run(const TaskRun& run) override {
    const vision::PictureClasses data(run.seed, o_.classes);
    const auto train = data.draw("train", o_.train_samples), test = data.draw("test", o_.test_samples);
    vision::GatedCnn model({.sizes = {.classes = o_.classes}, .gated = o_.gated}, run.seed);
    const int64_t steps = run.steps > 0 ? run.steps : o_.steps;
    fit(model, train, model.parameters(), 0, steps, o_.lambda, run);
    fit(model, train, model.base_parameters(), steps, run.steps > 0 ? 1 : o_.tuning_steps, 0, run);
    model.eval();
    const c10::NoGradGuard no_grad;
    const auto out = model.forward(test.x);
    double active = 0, all = 0;
    for (const auto& gate : out.gates) active += (gate != 0).sum().item<double>(), all += static_cast<double>(gate.numel());
    return {{"test_accuracy", vision::accuracy(out.logits, test.labels)}, {"active_channels", active / all}, {"flops_share", model.flops(out.gates) / model.flops_of_all()}};
  }

 private:
  void fit(const vision::GatedCnn& model, const vision::Pictures& train, const std::vector<torch::Tensor>& parameters, int64_t first, int64_t steps, double lambda, const TaskRun& run) const {
    vision::Sgd sgd(parameters, {.lr = o_.lr, .momentum = 0.9});
    for (int64_t step = first; step < first + steps; ++step) {
      const auto batch = vision::mini_batch(RandomStream(run.seed, "deepmoe"), step, o_.train_samples, o_.batch);
      vision::clear_gradients(model.parameters());
      const auto out = model.forward(train.x.index_select(0, batch));
      const auto labels = train.labels.index_select(0, batch);
      auto loss = vision::cross_entropy(out.logits, labels) + o_.mu * vision::cross_entropy(out.embedding_logits, labels);
      for (const auto& gate : out.gates) loss = loss + lambda * gate.sum(1).mean();
      loss.backward();
      sgd.step();
      if (step % 50 == 49) run.say(fmt::format("step {}: loss {:.4f}", step + 1, loss.item<double>()));
    }
  }

  Options o_;
};

}  // namespace

TaskEntry task_deepmoe() { return plug_in<DeepMoeTask, TaskEntry>("deepmoe", "arXiv:1806.01531", "every channel of a CNN is an expert, gated by a shallow embedding"); }

}  // namespace switchyard
