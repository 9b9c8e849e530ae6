#include "steps/recipe_checks.h"

#include "core/ops.h"
#include "switchyard/error.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>

namespace switchyard {
namespace {

// Reports a wrong value with its place in the file.
class Checks {
 public:
  explicit Checks(const ConfigNode& root) : root_(root) {}

  void at_least(const char* key, int64_t value, int64_t least) const {
    if (value < least) refuse(key, std::to_string(value), fmt::format("at least {}", least));
  }
  void at_least(const char* key, double value, double least) const {
    if (!(value >= least) || !std::isfinite(value)) refuse(key, fmt::format("{}", value), fmt::format("at least {}", least));
  }
  // low <= value <= high, or value < high with `open`.
  void between(const char* key, double value, double low, double high, bool open = false) const {
    const bool good = value >= low && (open ? value < high : value <= high);
    if (!good) refuse(key, fmt::format("{}", value), fmt::format("{} to {}{}", low, high, open ? " (less than)" : ""));
  }
  void one_of(const char* key, const std::string& value, std::initializer_list<const char*> names) const {
    if (std::find(names.begin(), names.end(), value) == names.end())
      refuse(key, "\"" + value + "\"", fmt::format("{}", fmt::join(names, ", ")));
  }
  [[noreturn]] void refuse(const char* key, const std::string& found, const std::string& expected) const {
    fail(ErrorKind::config, "{}{} = {}; expected {}", location(key), key, found, expected);
  }

 private:
  // Of the key, or of the nearest table above it.
  [[nodiscard]] std::string location(std::string_view key) const {
    const ConfigNode* node = &root_;
    while (!key.empty()) {
      const auto dot = key.find('.');
      const ConfigNode* child = node->find(key.substr(0, dot));
      if (!child) break;
      node = child;
      key = dot == std::string_view::npos ? std::string_view{} : key.substr(dot + 1);
    }
    return node->location();
  }

  const ConfigNode& root_;
};

void check_data(const Recipe& recipe, const Checks& check) {
  check.at_least("seed", recipe.seed, 0);
  check.between("data.validation_fraction", recipe.data.split.validation_fraction, 0, 1, true);
  check.one_of("data.order", recipe.data.order, {"given", "similar"});
  check.at_least("data.whole_documents_above", recipe.data.split.whole_documents_above, 0);
  check.one_of("tokenizer.kind", recipe.tokenizer.kind, {"bpe", "byte", "file"});
  if (recipe.tokenizer.kind == "bpe") check.at_least("tokenizer.vocab_size", recipe.tokenizer.vocab_size, 257);
  if (recipe.tokenizer.kind == "file" && recipe.tokenizer.path.empty())
    check.refuse("tokenizer.path", "\"\"", "the path of a tokenizer.json, as tokenizer.kind is \"file\"");
}

void check_optimizer(const OptimizerOptions& o, const Checks& check) {
  check.at_least("train.optimizer.lr", o.lr, 0);
  check.between("train.optimizer.beta1", o.beta1, 0, 1, true);
  check.between("train.optimizer.beta2", o.beta2, 0, 1, true);
  check.at_least("train.optimizer.weight_decay", o.weight_decay, 0);
  check.at_least("train.optimizer.router_lr_scale", o.router_lr_scale, 0.0);
  if (!(o.eps > 0)) check.refuse("train.optimizer.eps", fmt::format("{}", o.eps), "more than 0");
}

void check_schedule(const TrainOptions& train, const Checks& check) {
  const ScheduleOptions& s = train.schedule;
  check.one_of("train.schedule.kind", s.kind, {"cosine", "linear", "wsd", "constant"});
  check.one_of("train.schedule.decay_shape", s.decay_shape, {"linear", "sqrt"});
  check.at_least("train.schedule.warmup_steps", s.warmup_steps, 0);
  check.between("train.schedule.min_lr_ratio", s.min_lr_ratio, 0, 1);
  check.between("train.schedule.decay_fraction", s.decay_fraction, 0, 1);
}

void check_router_tuning(const Recipe& recipe, const Checks& check) {
  if (!recipe.train.router_tuning) return;
  const RouterTuningOptions& o = *recipe.train.router_tuning;
  if (!recipe.model.moe) check.refuse("train.router_tuning", "a table", "none: the model has no experts");
  if (recipe.train.optimizer.router_lr_scale == 0)
    check.refuse("train.optimizer.router_lr_scale", "0", "more than 0 with train.router_tuning, which moves the routers");
  check.at_least("train.router_tuning.steps", o.steps, 0);
  check.between("train.router_tuning.target", o.target, 0, 1);
  check.at_least("train.router_tuning.lambda", o.lambda, 0.0);
  check.at_least("train.router_tuning.lr", o.lr, 0.0);
  check.at_least("train.router_tuning.surrogate_lr", o.surrogate_lr, 0.0);
  check.at_least("train.router_tuning.threshold", o.threshold, 0.0);
  check.at_least("train.router_tuning.hidden", o.hidden, 1);
  if (!o.latency.empty() && static_cast<int64_t>(o.latency.size()) != recipe.model.moe->num_experts)
    check.refuse("train.router_tuning.latency", fmt::format("{} numbers", o.latency.size()),
                 fmt::format("model.moe.num_experts = {} of them", recipe.model.moe->num_experts));
  for (const double latency : o.latency)
    if (!(latency > 0)) check.refuse("train.router_tuning.latency", fmt::format("{}", latency), "numbers above 0");
}

void check_train(const Recipe& recipe, const Checks& check) {
  const TrainOptions& t = recipe.train;
  check.at_least("train.steps", t.steps, 1);
  check.at_least("train.batch_size", t.batch_size, 1);
  check.at_least("train.seq_len", t.seq_len, 1);
  if (t.seq_len > recipe.model.max_positions)
    check.refuse("train.seq_len", std::to_string(t.seq_len), fmt::format("at most model.max_positions = {}", recipe.model.max_positions));
  check.at_least("train.micro_batch", t.micro_batch, 0);
  if (t.batch_size % t.micro_batch_size() != 0)
    check.refuse("train.micro_batch", std::to_string(t.micro_batch), fmt::format("a divisor of train.batch_size = {}", t.batch_size));
  check.one_of("train.compute", t.compute, {"auto", "bfloat16", "float32", "bf16", "f32"});
  check.at_least("train.grad_clip", t.grad_clip, 0);
  check.at_least("train.log_every", t.log_every, 1);
  check.at_least("train.eval_every", t.eval_every, 0);
  check.at_least("train.eval_tokens", t.eval_tokens, 0);
  check.at_least("train.checkpoint_every", t.checkpoint_every, 0);
  check.at_least("train.threads", t.threads, 0);
  check.between("train.consistency.passes", static_cast<double>(t.consistency.passes), 1, 2);
  check.at_least("train.consistency.alpha", t.consistency.alpha, 0);
  check_optimizer(t.optimizer, check);
  check_schedule(t, check);
  check_router_tuning(recipe, check);
}

}  // namespace

void check_recipe_at(const Recipe& recipe, const ConfigNode& root) {
  const Checks check(root);
  check_data(recipe, check);
  check_train(recipe, check);
  check.at_least("sample.tokens", recipe.sample.tokens, 0);
  check.at_least("sample.temperature", recipe.sample.temperature, 0);
  check.between("sample.top_p", recipe.sample.top_p, 0, 1);
  check.at_least("sample.tag", recipe.sample.tag, -1);
  if (recipe.bench.tags < 1 || kBenchClusters % recipe.bench.tags != 0)
    check.refuse("bench.tags", std::to_string(recipe.bench.tags), fmt::format("a divisor of {}", kBenchClusters));
  if (recipe.model.moe || !recipe.model.mixtures.empty()) (void)bench_moe(recipe);
  const ModelSpec model = resolved_model(recipe);
  if (const int64_t tokens = expected_vocab_size(recipe.tokenizer) + recipe.model.extra_tokens(); model.vocab_size < tokens)
    check.refuse("model.vocab_size", std::to_string(model.vocab_size), fmt::format("0 or at least the tokenizer's {}", tokens));
}

}  // namespace switchyard
