#include "steps/dry_run.h"

#include "base/proc.h"
#include "models/encoder_stack.h"
#include "steps/trainer.h"

#include <algorithm>

namespace switchyard {
namespace {

constexpr int kMeasuredSteps = 3;
constexpr double kShareOfMemory = 0.8;  // of what is available; beyond it the measurement itself could fail

data::Batch random_batch(const TrainOptions& options, int64_t vocab_size, uint64_t seed, int64_t step, int64_t micro) {
  data::Batch batch;
  batch.batch = options.micro_batch_size();
  batch.seq = options.seq_len;
  const RandomStream random = RandomStream(seed).at("dry_run", static_cast<uint64_t>(step * options.micro_batches() + micro));
  const auto draw = [&](uint64_t i) { return static_cast<int32_t>(random.below(i, static_cast<uint64_t>(vocab_size))); };
  for (int64_t i = 0; i < batch.batch * batch.seq; ++i) {
    batch.input_ids.push_back(draw(static_cast<uint64_t>(2 * i)));
    batch.labels.push_back(draw(static_cast<uint64_t>(2 * i + 1)));
    batch.segments.push_back(0);
    batch.positions.push_back(static_cast<int32_t>(i % batch.seq));
    batch.documents.push_back(0);
    batch.tags.push_back(0);
  }
  batch.scored_tokens = batch.batch * batch.seq;
  return batch;
}

void measure(const Recipe& recipe, const ModelSpec& spec, DryRun& out) {
  refuse_encoder(spec, "train");
  const auto seed = static_cast<uint64_t>(recipe.seed);
  const TrainOptions& t = recipe.train;
  Trainer trainer(std::make_shared<LanguageModel>(spec, seed), t, seed,
                  [&](int64_t step, int64_t micro) { return random_batch(t, spec.vocab_size, seed, step, micro); });
  const int64_t before = proc_bytes("/proc/self/status", "VmRSS");
  std::vector<double> seconds;
  double last = 0;
  for (int i = 0; i < kMeasuredSteps; ++i) {
    const double now = trainer.step().seconds;
    seconds.push_back(now - last);
    last = now;
  }
  const int64_t risen = proc_bytes("/proc/self/status", "VmHWM") - before;
  out.activations = std::max<int64_t>(0, risen - out.gradients - out.logits);
  std::sort(seconds.begin() + 1, seconds.end());
  out.step_seconds = seconds[1 + (seconds.size() - 2) / 2];
  out.train_seconds = out.step_seconds * static_cast<double>(t.steps);
  out.measured = true;
}

}  // namespace

DryRun dry_run(const Recipe& recipe) {
  check_recipe(recipe);
  const ModelSpec spec = resolved_model(recipe);
  const TrainOptions& t = recipe.train;
  DryRun out;
  out.parameters = count_parameters(spec);
  out.weights = out.gradients = 4 * out.parameters.total;
  out.moments = 2 * out.weights;
  out.logits = 2 * 4 * t.micro_batch_size() * t.seq_len * spec.vocab_size;
  out.disk = 2 * (out.weights + out.moments) + out.weights;
  out.tokens = t.steps * t.batch_size * t.seq_len;
  out.available = available_memory();
  if (static_cast<double>(out.memory()) < kShareOfMemory * static_cast<double>(out.available)) measure(recipe, spec, out);
  return out;
}

nlohmann::ordered_json to_json(const DryRun& r) {
  return {{"parameters", r.parameters.total},
          {"active_parameters", r.parameters.active},
          {"memory_bytes", {{"weights", r.weights}, {"gradients", r.gradients}, {"moments", r.moments}, {"logits", r.logits},
                            {"activations", r.activations}, {"total", r.memory()}, {"available", r.available}}},
          {"disk_bytes", r.disk},
          {"tokens", r.tokens},
          {"step_seconds", r.step_seconds},
          {"train_seconds", r.train_seconds},
          {"measured", r.measured}};
}

}  // namespace switchyard
