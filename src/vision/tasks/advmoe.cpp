// Adversarial training by turns of the channels of a CNN and of the router that chooses a block of them for each picture, against the
// same training of one pathway: accuracy on attacked pictures.
//
//   backbone step: CE(f(x), y) + beta KL(f(x') || f(x)), router frozen      router step: alpha CE(r(x), y mod N) + beta KL(r(x') || r(x)),
//   and the same loss of f through the scores      x' by two steps of ascent on KL of the model plus KL of the router
//
// Source: arXiv:2308.10110 section 4 and its released code.
#include "vision/channel_bank.h"
#include "vision/images.h"
#include "vision/task.h"
#include "vision/training.h"

#include "switchyard/error.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

namespace switchyard {
namespace {

class AdvMoeTask final : public Task {
 public:
  struct Options {
    int64_t experts = 2, classes = 4, train_samples = 500, test_samples = 300, steps = 150, batch = 32;
    double alpha = 6, beta = 6, lr = 0.05, epsilon = 8.0 / 255;
    template <class V> void fields(V&& v) {
      v("experts", experts, "N: blocks of channels; 1 = one pathway, the baseline");
      v("classes", classes, "of pictures");
      v("train_samples", train_samples, "to learn from");
      v("test_samples", test_samples, "to measure on");
      v("steps", steps, "of the backbone, and as many of the router");
      v("batch", batch, "samples per step");
      v("alpha", alpha, "weight of the router's own classes");
      v("beta", beta, "weight of the divergences");
      v("lr", lr, "of gradient descent with momentum 0.9");
      v("epsilon", epsilon, "how far an attack may move a pixel");
    }
  };

  explicit AdvMoeTask(const Options& o) : o_(o) {
    for (const auto& [key, value] : {std::pair{"experts", o.experts}, {"classes", o.classes}, {"train_samples", o.train_samples}, {"test_samples", o.test_samples}, {"steps", o.steps}, {"batch", o.batch}})
      if (value < 1) fail(ErrorKind::config, "task advmoe: {} = {}, expected at least 1", key, value);
    if (!(o.epsilon >= 0)) fail(ErrorKind::config, "task advmoe: epsilon = {}, expected 0 or more", o.epsilon);
  }

  std::vector<Measure> run(const TaskRun& run) override {
    const vision::PictureClasses data(run.seed, o_.classes);
    const auto train = data.draw("train", o_.train_samples), test = data.draw("test", o_.test_samples);
    vision::BlockedCnn model({.sizes = {.channels = {6, 8, 8}, .classes = o_.classes}, .experts = o_.experts}, run.seed);
    vision::Sgd backbone(model.backbone_parameters(), {.lr = o_.lr, .momentum = 0.9, .weight_decay = 5e-4});
    vision::Sgd router(model.router_parameters(), {.lr = o_.lr, .momentum = 0.9, .weight_decay = 5e-4});
    const int64_t steps = run.steps > 0 ? run.steps : o_.steps;
    for (int64_t step = 0; step < 2 * steps; ++step) {
      const bool routing = step % 2 == 1;
      if (routing && o_.experts == 1) continue;
      const auto batch = vision::mini_batch(RandomStream(run.seed, "advmoe"), step, o_.train_samples, o_.batch);
      const auto x = train.x.index_select(0, batch), y = train.labels.index_select(0, batch);
      model.eval();  // attacks look at the running statistics and leave them alone
      const auto adversary = attack(model, x, RandomStream(run.seed, "attack").at("step", static_cast<uint64_t>(step)));
      model.train();
      vision::clear_gradients(model.parameters());
      const auto loss = routing ? router_loss(model, x, adversary, y) : backbone_loss(model, x, adversary, y);
      loss.backward();
      (routing ? router : backbone).step();
      if (step % 100 == 0) run.say(fmt::format("step {}: loss {:.4f}", step / 2 + 1, loss.item<double>()));
    }
    model.eval();
    const auto adversary = attack(model, test.x, RandomStream(run.seed, "test attack"), &test.labels, 10);
    const c10::NoGradGuard no_grad;
    const auto choice = model.route(test.x).argmax(1);
    const double first = (choice == 0).to(torch::kFloat64).mean().item<double>();
    return {{"test_accuracy", vision::accuracy(model.forward(test.x), test.labels)}, {"attacked_accuracy", vision::accuracy(model.forward(adversary), test.labels)},
            {"share_of_first_expert", first}};
  }

 private:
  [[nodiscard]] torch::Tensor attack(const vision::BlockedCnn& model, const torch::Tensor& x, const RandomStream& random, const torch::Tensor* labels = nullptr, int64_t steps = 2) const {
    torch::Tensor clean, clean_routes;
    {
      const c10::NoGradGuard no_grad;
      clean = model.forward(x);
      clean_routes = model.route(x);
    }
    const vision::Attack a{.epsilon = o_.epsilon, .step = steps > 2 ? o_.epsilon / 4 : 5.0 / 255, .steps = steps};
    return vision::attacked(x, a, random, [&](const torch::Tensor& z) {
      const auto routes = model.route(z);
      const auto logits = model.forward(z, routes);
      return labels ? vision::cross_entropy(logits, *labels) : vision::divergence(logits, clean) + vision::divergence(routes, clean_routes);
    });
  }

  [[nodiscard]] torch::Tensor trades(const vision::BlockedCnn& model, const torch::Tensor& x, const torch::Tensor& adversary, const torch::Tensor& y, const torch::Tensor& routes,
                                     const torch::Tensor& adversary_routes) const {
    const auto logits = model.forward(x, routes);
    return vision::cross_entropy(logits, y) + o_.beta * vision::divergence(model.forward(adversary, adversary_routes), logits);
  }

  [[nodiscard]] torch::Tensor backbone_loss(const vision::BlockedCnn& model, const torch::Tensor& x, const torch::Tensor& adversary, const torch::Tensor& y) const {
    return trades(model, x, adversary, y, model.route(x).detach(), model.route(adversary).detach());
  }

  [[nodiscard]] torch::Tensor router_loss(const vision::BlockedCnn& model, const torch::Tensor& x, const torch::Tensor& adversary, const torch::Tensor& y) const {
    const auto routes = model.route(x), adversary_routes = model.route(adversary);
    return trades(model, x, adversary, y, routes, adversary_routes) + o_.alpha * vision::cross_entropy(routes, at::remainder(y, o_.experts)) +
           o_.beta * vision::divergence(adversary_routes, routes);
  }

  Options o_;
};

}  // namespace

TaskEntry task_advmoe() { return plug_in<AdvMoeTask, TaskEntry>("advmoe", "arXiv:2308.10110", "blocks of channels chosen per picture, trained against attacks by turns"); }

}  // namespace switchyard
