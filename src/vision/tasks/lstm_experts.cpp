// Sequences from several hidden Markov rules, a rule per sequence: an LSTM model with experts between its layers against one without, at
// nearly the same number of operations per step. Source: arXiv:1701.06538.
#include "vision/lstm.h"
#include "vision/task.h"
#include "vision/training.h"

#include "switchyard/error.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>

namespace switchyard {
namespace {

class LstmExpertsTask final : public Task {
 public:
  struct Options {
    int64_t vocab = 24, hidden = 24, experts = 16, k = 2, d_expert = 64, rules = 12, length = 24, batch = 32, steps = 200;
    std::string between = "feed_forward";
    double lr = 3.0, dropout = 0.0;
    template <class V> void fields(V&& v) {
      v("vocab", vocab, "symbols");
      v("hidden", hidden, "width of the LSTM layers");
      v("experts", experts, "between the two layers");
      v("k", k, "chosen per step");
      v("d_expert", d_expert, "inner width of a feed-forward expert");
      v("rules", rules, "of which one makes each sequence");
      v("length", length, "of a sequence");
      v("batch", batch, "sequences per step");
      v("steps", steps, "of training");
      v("between", between, "the two layers: none, feed_forward or recurrent experts");
      v("lr", lr, "of gradient descent with clipped gradients");
      v("dropout", dropout, "around the experts");
    }
  };

  explicit LstmExpertsTask(const Options& o) : o_(o) {
    for (const auto& [key, value] : {std::pair{"vocab", o.vocab}, {"hidden", o.hidden}, {"experts", o.experts}, {"k", o.k}, {"rules", o.rules}, {"batch", o.batch}, {"steps", o.steps}})
      if (value < 1) fail(ErrorKind::config, "task lstm_experts: {} = {}, expected at least 1", key, value);
    if (o.length < 2) fail(ErrorKind::config, "task lstm_experts: length = {}, expected at least 2", o.length);
  }

  std::vector<Measure> run(const TaskRun& run) override {
    vision::LstmModel model({.vocab = o_.vocab, .hidden = o_.hidden, .experts = o_.experts, .k = o_.k, .d_expert = o_.d_expert, .between = o_.between, .dropout = o_.dropout}, run.seed);
    vision::Sgd sgd(model.parameters(), {.lr = o_.lr});
    const int64_t steps = run.steps > 0 ? run.steps : o_.steps;
    model.train();
    for (int64_t step = 0; step < steps; ++step) {
      sgd.clear();
      const auto ids = sequences(RandomStream(run.seed, "train").at("step", static_cast<uint64_t>(step)), o_.batch);
      const auto out = model.forward(ids.slice(1, 0, -1), step);
      const auto loss = loss_of(out.logits, ids);
      (loss + out.aux_loss).backward();
      sgd.step(clip_factor(model));
      if (step % 50 == 49) run.say(fmt::format("step {}: loss {:.4f}", step + 1, loss.item<double>()));
    }
    model.eval();
    const c10::NoGradGuard no_grad;
    const auto ids = sequences(RandomStream(run.seed, "test"), 256);
    return {{"test_loss", loss_of(model.forward(ids.slice(1, 0, -1)).logits, ids).item<double>()}};
  }

 private:
  // Rule r: the next symbol is (a_r s + b_r) mod V, and with a chance of one in ten any other.
  [[nodiscard]] torch::Tensor sequences(const RandomStream& random, int64_t count) const {
    auto ids = torch::empty({count, o_.length}, torch::kInt64);
    const RandomStream rules(0, "rules");
    for (int64_t i = 0; i < count; ++i) {
      const auto rule = random.at("rule").below(static_cast<uint64_t>(i), static_cast<uint64_t>(o_.rules));
      const auto a = static_cast<int64_t>(1 + rules.at("a").below(rule, static_cast<uint64_t>(o_.vocab))), b = static_cast<int64_t>(rules.at("b").below(rule, static_cast<uint64_t>(o_.vocab)));
      auto s = static_cast<int64_t>(random.at("first").below(static_cast<uint64_t>(i), static_cast<uint64_t>(o_.vocab)));
      for (int64_t t = 0; t < o_.length; ++t) {
        ids[i].data_ptr<int64_t>()[t] = s;
        const auto at = static_cast<uint64_t>(i * o_.length + t);
        s = random.at("noise").below(at, 10) == 0 ? static_cast<int64_t>(random.at("any").below(at, static_cast<uint64_t>(o_.vocab))) : (a * s + b) % o_.vocab;
      }
    }
    return ids;
  }

  [[nodiscard]] torch::Tensor loss_of(const torch::Tensor& logits, const torch::Tensor& ids) const {
    return vision::cross_entropy(logits.reshape({-1, o_.vocab}), ids.slice(1, 1).reshape({-1}));
  }

  // Gradients of norm above 1 count as 1.
  [[nodiscard]] static double clip_factor(const torch::nn::Module& model) {
    double sum = 0;
    for (const auto& p : model.parameters())
      if (p.grad().defined()) sum += p.grad().square().sum().item<double>();
    return sum > 1 ? 1 / std::sqrt(sum) : 1;
  }

  Options o_;
};

}  // namespace

TaskEntry task_lstm_experts() {
  return plug_in<LstmExpertsTask, TaskEntry>("lstm_experts", "arXiv:1701.06538", "experts between LSTM layers, and LSTM cells as experts");
}

}  // namespace switchyard
