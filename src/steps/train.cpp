#include "steps/train.h"

#include "base/atomic_dir.h"
#include "base/config_tree.h"
#include "base/files.h"
#include "eval/batch_tensors.h"
#include "eval/trace_run.h"
#include "models/encoder_stack.h"
#include "steps/metrics_file.h"
#include "steps/numeric_checks.h"
#include "steps/resume.h"
#include "steps/run_folder.h"
#include "steps/train_data.h"
#include "steps/trainer.h"
#include "switchyard/error.h"

#include <ATen/Parallel.h>

#include <cmath>
#include <limits>

namespace switchyard {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr int64_t kStateVersion = 1;

fs::path state_file(const RunFolder& folder) { return folder.last() / "training_state.json"; }

Recipe recipe_of_state(const ConfigNode& state, const fs::path& checkpoint, std::span<const std::string> overrides) {
  const ConfigNode *version = state.find("version"), *recipe = state.find("recipe");
  const auto* number = version ? std::get_if<int64_t>(&version->value) : nullptr;
  if (!number || *number != kStateVersion || !recipe)
    fail(ErrorKind::checkpoint, "{}: its training state is of version {}, expected {} with a recipe; only checkpoints of `train` can go on",
         checkpoint.string(), number ? std::to_string(*number) : "none", kStateVersion);
  return recipe_from(*recipe, overrides);
}

// A run from opening to its last line.
class Run {
 public:
  Run(const Recipe& recipe, const TrainRun& run, TrainObserver& observer);
  TrainResult go();

 private:
  void open_resumed();
  void open_new();
  void make_trainer();
  void describe();
  void write_info(const Json& final);
  [[nodiscard]] bool stop_requested() const { return run_.stop && run_.stop(); }
  [[nodiscard]] bool due(int64_t every) const;
  void event(const std::string& what);
  void step();
  [[nodiscard]] std::optional<EvalMetrics> evaluate_now(int64_t max_tokens);
  void evaluate_and_keep_best();
  void save_best(double loss);
  void save_last();
  TrainResult finish();
  TrainResult interrupted();
  [[nodiscard]] TrainResult result(TrainStatus status) const;

  Recipe recipe_;
  TrainRun run_;
  TrainObserver& observer_;
  RunFolder folder_;
  Checkpoint loaded_;  // what the run begins with; empty for a model from scratch
  bool resumed_ = false;
  TrainData data_;
  std::shared_ptr<LanguageModel> model_;
  std::unique_ptr<data::TrainBatches> batches_;
  std::unique_ptr<Trainer> trainer_;
  std::unique_ptr<MetricsFile> metrics_;
  Json info_;
  std::optional<EvalMetrics> last_full_;  // the last evaluation of all validation text
  int64_t evaluated_step_ = 0, saved_step_ = -1, best_step_ = 0;
  double best_loss_ = std::numeric_limits<double>::infinity();
};

Run::Run(const Recipe& recipe, const TrainRun& run, TrainObserver& observer)
    : recipe_(recipe), run_(run), observer_(observer), folder_{run.folder} {
  check_recipe(recipe_);
  refuse_encoder(recipe_.model, "train");
  if (folder_.has_checkpoint() && !run_.resume)
    fail(ErrorKind::usage, "{} already holds a run; go on with --resume, or choose another folder", folder_.path.string());
  if (recipe_.train.threads > 0) at::set_num_threads(static_cast<int>(recipe_.train.threads));
  fs::create_directories(folder_.path);
  resumed_ = run_.resume && folder_.has_checkpoint();
  try {
    if (resumed_) open_resumed();
    else open_new();
    make_trainer();
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorKind::checkpoint, "{}: {}", state_file(folder_).string(), error.what());
  }
  describe();
}

void Run::open_resumed() {
  loaded_ = load_checkpoint(folder_.last(), /*with_training_state=*/true);
  const ConfigNode state = config_from_json(loaded_.training_state, state_file(folder_).string());
  check_resumable(recipe_of_state(state, folder_.last(), {}), recipe_);
  data_ = open_train_data(recipe_, loaded_.tokenizer, folder_.tokens(), observer_);
  if (const uint64_t text = loaded_.training_state.at("text").get<uint64_t>(); text != data_.tokens->fingerprint())
    fail(ErrorKind::config, "{} has changed since the run in {} began: fingerprint {:016x}, then {:016x}", recipe_.data.path,
         folder_.path.string(), data_.tokens->fingerprint(), text);
}

void Run::open_new() {
  loaded_ = std::move(run_.from);
  data_ = open_train_data(recipe_, loaded_.tokenizer, folder_.tokens(), observer_);
}

void Run::make_trainer() {
  ModelSpec spec = recipe_.model;
  const int64_t tokens = data_.tokenizer->vocab_size() + spec.extra_tokens();
  if (spec.vocab_size == 0) spec.vocab_size = tokens;
  if (spec.vocab_size < tokens)
    fail(ErrorKind::config, "model.vocab_size = {}, but the tokenizer has {} tokens{}", spec.vocab_size, data_.tokenizer->vocab_size(),
         spec.causal ? "" : " and a model that is not causal one more, the mask");
  const auto seed = static_cast<uint64_t>(recipe_.seed);
  const TrainOptions& t = recipe_.train;
  model_ = std::make_shared<LanguageModel>(spec.resolved(), seed);
  model_->to_device(run_.device);
  batches_ = std::make_unique<data::TrainBatches>(
      data_.tokens->train(), data::TrainBatchOptions{.seq_len = t.seq_len,
                                                     .batch_size = t.micro_batch_size(),
                                                     .micro_batches = t.micro_batches(),
                                                     .seed = seed,
                                                     .cross_documents = recipe_.data.cross_documents});
  trainer_ = std::make_unique<Trainer>(model_, t, seed, [this, seed](int64_t step, int64_t micro) {
    const auto stream = RandomStream(seed, "mask").at("step", static_cast<uint64_t>(step)).at("micro", static_cast<uint64_t>(micro));
    return task_of(*model_, batches_->batch(step, micro), stream);
  });
  if (resumed_) {
    const Json& state = loaded_.training_state;
    trainer_->load(loaded_);
    evaluated_step_ = state.at("evaluated_step").get<int64_t>();
    best_step_ = state.at("best_step").get<int64_t>();
    if (best_step_ > 0) best_loss_ = state.at("best_loss").get<double>();
    saved_step_ = trainer_->steps_done();
  } else if (loaded_.model) {
    copy_weights(*loaded_.model, *model_, "the model to start from", /*new_mixtures=*/true);
  }
  loaded_ = {};
}

void Run::describe() {
  metrics_ = std::make_unique<MetricsFile>(folder_.metrics(), trainer_->steps_done());
  write_file_atomic(folder_.recipe(), show_recipe(recipe_));
  info_ = describe_run(recipe_, model_->spec(), run_.command);
  info_["device"] = run_.device.str();
  info_["dataset"] = switchyard::describe(data_, recipe_);
  write_info(Json::object());
}

void Run::write_info(const Json& final) {
  info_["final"] = final;
  write_file_atomic(folder_.info(), info_.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

void Run::event(const std::string& what) {
  const EventMetrics metrics{trainer_->steps_done(), what, trainer_->seconds()};
  metrics_->write(to_json(metrics));
  observer_.on_event(metrics);
}

// At every multiple, and at the end.
bool Run::due(int64_t every) const {
  const int64_t step = trainer_->steps_done();
  return step >= recipe_.train.steps || (step > 0 && every > 0 && step % every == 0);
}

void Run::step() {
  const StepMetrics metrics = trainer_->step();
  if (metrics.step % recipe_.train.log_every == 0 || metrics.step == recipe_.train.steps || metrics.step == 1)
    metrics_->write(to_json(metrics));
  observer_.on_step(metrics);
}

std::optional<EvalMetrics> Run::evaluate_now(int64_t max_tokens) {
  if (data_.tokens->validation().size() < 2) return std::nullopt;
  const TrainOptions& t = recipe_.train;
  const auto result = evaluate(*model_, data_.tokens->validation(),
                               {.seq_len = t.seq_len,
                                .batch_size = t.micro_batch_size(),
                                .max_tokens = max_tokens,
                                .cross_documents = recipe_.data.cross_documents,
                                .compute = parse_compute_type(t.compute)},
                               run_.stop);
  if (!result) return std::nullopt;
  const EvalMetrics metrics{trainer_->steps_done(), *result, trainer_->seconds()};
  if (max_tokens == 0) last_full_ = metrics;
  return metrics;
}

void Run::evaluate_and_keep_best() {
  const auto metrics = evaluate_now(recipe_.train.eval_tokens);
  if (!metrics && stop_requested()) return;  // interrupted: it is made up for after the resume
  evaluated_step_ = trainer_->steps_done();
  if (!metrics) return;
  metrics_->write(to_json(*metrics));
  observer_.on_eval(*metrics);
  if (metrics->result.loss < best_loss_) save_best(metrics->result.loss);
  // A step that was saved before its evaluation (which had been interrupted): the checkpoint learns of it now.
  if (saved_step_ == evaluated_step_) save_last();
}

void Run::save_best(double loss) {
  best_loss_ = loss;
  best_step_ = trainer_->steps_done();
  check_weights(best_step_, trainer_->parameters());
  save_checkpoint({.model = model_, .tokenizer = data_.tokenizer, .training_tensors = {}, .training_state = {}}, folder_.best());
  event("best");
}

void Run::save_last() {
  Checkpoint checkpoint{.model = model_, .tokenizer = data_.tokenizer, .training_tensors = {}, .training_state = {}};
  Json& state = checkpoint.training_state;
  state = {{"version", kStateVersion}, {"evaluated_step", evaluated_step_}, {"best_step", best_step_}, {"text", data_.tokens->fingerprint()}};
  if (best_step_ > 0) state["best_loss"] = best_loss_;
  state["recipe"] = to_json(write_any(recipe_));
  trainer_->save(checkpoint);
  save_checkpoint(checkpoint, folder_.last());
  saved_step_ = trainer_->steps_done();
}

TrainResult Run::result(TrainStatus status) const {
  return {.status = status,
          .step = trainer_->steps_done(),
          .evaluation = std::nullopt,
          .best_loss = best_loss_,
          .best_step = best_step_,
          .model = model_,
          .tokenizer = data_.tokenizer};
}

TrainResult Run::interrupted() {
  if (saved_step_ != trainer_->steps_done()) save_last();
  event("interrupted");
  return result(TrainStatus::interrupted);
}

TrainResult Run::finish() {
  TrainResult out = result(TrainStatus::finished);
  const auto final = last_full_ && last_full_->step == out.step ? last_full_ : evaluate_now(0);
  if (!final && stop_requested()) return interrupted();
  Json figures = {{"step", out.step}, {"tokens", trainer_->tokens()}, {"seconds", trainer_->seconds()},
                  {"tokens_per_s", static_cast<double>(trainer_->tokens()) / trainer_->seconds()}};
  if (final) {
    const EvalResult& e = final->result;
    out.evaluation = e;
    figures.update(Json{{"loss", e.loss}, {"loss_se", e.loss_se}, {"perplexity", e.perplexity}, {"perplexity_se", e.perplexity_se},
                        {"bits_per_byte", e.bits_per_byte}, {"best_loss", best_loss_}, {"best_step", best_step_}});
    const TraceOptions options{.seq_len = recipe_.train.seq_len, .cross_documents = recipe_.data.cross_documents,
                               .compute = parse_compute_type(recipe_.train.compute)};
    write_file_atomic(folder_.trace(), trace_routing(*model_, *data_.tokenizer, *data_.tokens, options).dump(-1, ' ', false, Json::error_handler_t::replace));
  }
  event("finished");
  write_info(figures);
  return out;
}

TrainResult Run::go() {
  if (resumed_) event("resume");
  try {
    while (true) {
      if (due(recipe_.train.eval_every) && evaluated_step_ < trainer_->steps_done()) evaluate_and_keep_best();
      if (due(recipe_.train.checkpoint_every) && saved_step_ != trainer_->steps_done()) save_last();
      if (stop_requested()) return interrupted();
      if (trainer_->steps_done() >= recipe_.train.steps) return finish();
      step();
    }
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::numeric || saved_step_ < 0) throw;
    fail(ErrorKind::numeric, "{}; the checkpoint of step {} is kept in {}", error.what(), saved_step_, folder_.last().string());
  }
}

}  // namespace

TrainResult train(const Recipe& recipe, const TrainRun& run, TrainObserver& observer) { return Run(recipe, run, observer).go(); }

Recipe recipe_of_run(const fs::path& folder, std::span<const std::string> overrides) {
  const RunFolder run{folder};
  if (!run.has_checkpoint()) fail(ErrorKind::usage, "{}: no run to go on with (no checkpoints/last)", folder.string());
  const fs::path file = state_file(run);
  return recipe_of_state(parse_json(read_text_file(file), file.string()), run.last(), overrides);
}

}  // namespace switchyard
