// Labels that depend on the cluster of a sample: one linear head over the features of a trained trunk against one head per cluster.
// Source: arXiv:1704.06363.
#include "vision/hard_mixture.h"

#include "vision/patches.h"
#include "vision/task.h"
#include "vision/training.h"

#include "switchyard/error.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

namespace switchyard {
namespace {

// A small convolutional trunk over patches and its head, trained together first.
struct Base {
  torch::Tensor filters, head, bias;  // [F, d], [2, F], [2]
  [[nodiscard]] torch::Tensor features(const torch::Tensor& x) const { return at::relu(at::matmul(x, filters.t())).sum(1); }
  [[nodiscard]] torch::Tensor logits(const torch::Tensor& x) const { return at::addmm(bias, features(x), head.t()); }
};

class HardMixtureTask final : public Task {
 public:
  struct Options {
    int64_t experts = 4, features = 32, train_samples = 2000, test_samples = 2000, steps = 300;
    double lr = 0.1;
    template <class V> void fields(V&& v) {
      v("experts", experts, "K: clusters and heads");
      v("features", features, "of the trunk");
      v("train_samples", train_samples, "to learn from");
      v("test_samples", test_samples, "to measure on");
      v("steps", steps, "of the base network, and of each head");
      v("lr", lr, "of gradient descent");
    }
  };

  explicit HardMixtureTask(const Options& o) : o_(o) {
    for (const auto& [key, value] : {std::pair{"experts", o.experts}, {"features", o.features}, {"train_samples", o.train_samples}, {"test_samples", o.test_samples}, {"steps", o.steps}})
      if (value < 1) fail(ErrorKind::config, "task hard_mixture: {} = {}, expected at least 1", key, value);
  }

  std::vector<Measure> run(const TaskRun& run) override {
    const vision::ClusterPatches data(run.seed, 4, 16);
    const auto train = data.draw("train", o_.train_samples), test = data.draw("test", o_.test_samples);
    const int64_t steps = run.steps > 0 ? run.steps : o_.steps;
    const Base base = trained_base(train, steps, run);
    const auto seen = base.features(train.x).detach(), unseen = base.features(test.x).detach();
    const auto whitening = vision::whitening_of(seen);
    const auto centroids = vision::k_means(whitening.apply(seen), o_.experts, RandomStream(run.seed, "k-means"));
    vision::HardMixture mixture(whitening, centroids, base.head, base.bias), single(whitening, centroids.mean(0, true), base.head, base.bias);
    for (int64_t k = 0; k < mixture.experts(); ++k) mixture.train_expert(k, seen, train.labels, steps, o_.lr);
    single.train_expert(0, seen, train.labels, steps, o_.lr);
    const c10::NoGradGuard no_grad;
    return {{"base_accuracy", vision::accuracy(base.logits(test.x), test.labels)},
            {"one_head_accuracy", vision::accuracy(single.forward(unseen), test.labels)},
            {"test_accuracy", vision::accuracy(mixture.forward(unseen), test.labels)}};
  }

 private:
  [[nodiscard]] Base trained_base(const vision::PatchSamples& train, int64_t steps, const TaskRun& run) const {
    const RandomStream random(run.seed, "hard mixture base");
    Base base{vision::normal(random.at("filters"), {o_.features, train.x.size(2)}, 0.3).requires_grad_(),
              vision::normal(random.at("head"), {2, o_.features}, 0.1).requires_grad_(), torch::zeros({2}).requires_grad_()};
    vision::Sgd sgd({base.filters, base.head, base.bias}, {.lr = o_.lr});
    for (int64_t step = 0; step < steps; ++step) {
      const auto batch = vision::mini_batch(random, step, o_.train_samples, 64);
      sgd.clear();
      const auto loss = vision::cross_entropy(base.logits(train.x.index_select(0, batch)), train.labels.index_select(0, batch));
      loss.backward();
      sgd.step();
      if (step % 100 == 99) run.say(fmt::format("base, step {}: loss {:.4f}", step + 1, loss.item<double>()));
    }
    return base;
  }

  Options o_;
};

}  // namespace

TaskEntry task_hard_mixture() {
  return plug_in<HardMixtureTask, TaskEntry>("hard_mixture", "arXiv:1704.06363", "k-means over features of a trunk, one head per cluster, trained apart");
}

}  // namespace switchyard
