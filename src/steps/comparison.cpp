#include "steps/comparison.h"

#include "base/files.h"
#include "data/token_file.h"
#include "eval/first_experts.h"
#include "report/run_files.h"
#include "steps/run_folder.h"
#include "switchyard/error.h"

#include <set>

namespace switchyard {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

fs::path half_file(const RunFolder& run) { return run.path / "first_experts.json"; }
fs::path change_file(const RunFolder& run) { return run.path / "routing_change.json"; }

Json read_json(const fs::path& file) {
  try {
    return Json::parse(read_text_file(file));
  } catch (const Json::exception& error) {
    fail(ErrorKind::checkpoint, "{}: {}; remove it and ask again", file.string(), error.what());
  }
}

// Watches for the middle of a run, where it is stopped once to look at its routing.
class HalfWay final : public TrainObserver {
 public:
  HalfWay(TrainObserver& inner, int64_t half) : inner_(inner), half_(half) {}
  void on_step(const StepMetrics& m) override { step_ = m.step; inner_.on_step(m); }
  void on_eval(const EvalMetrics& m) override { inner_.on_eval(m); }
  void on_event(const EventMetrics& m) override {
    step_ = m.step;
    if (!(m.what == "interrupted" && reached()) && !(m.what == "resume" && m.step == half_)) inner_.on_event(m);
  }
  void on_prepare(const std::string& what, int64_t done, int64_t total) override { inner_.on_prepare(what, done, total); }
  [[nodiscard]] bool reached() const { return step_ == half_; }

 private:
  TrainObserver& inner_;
  int64_t half_, step_ = -1;
};

FirstExperts experts_now(const Recipe& recipe, const RunFolder& run, LanguageModel& model) {
  const data::TokenFile tokens(run.tokens());
  if (tokens.validation().size() < 2) return {};
  return first_experts(model, tokens.validation(), {.seq_len = recipe.train.seq_len, .cross_documents = recipe.data.cross_documents,
                                                    .compute = parse_compute_type(recipe.train.compute)});
}

void write_half(const Recipe& recipe, const RunFolder& run, const TrainResult& result) {
  Json layers = Json::array();
  for (const auto& [layer, experts] : experts_now(recipe, run, *result.model)) layers.push_back({{"layer", layer}, {"first_expert", experts}});
  write_file_atomic(half_file(run), Json{{"step", result.step}, {"layers", layers}}.dump());
}

void write_change(const Recipe& recipe, const RunFolder& run, const TrainResult& result) {
  const Json half = read_json(half_file(run));
  FirstExperts before;
  for (const auto& layer : half.at("layers")) before[layer.at("layer").get<int64_t>()] = layer.at("first_expert").get<std::vector<int32_t>>();
  Json layers = Json::array();
  for (const auto& [layer, share] : changed_share(before, experts_now(recipe, run, *result.model))) layers.push_back({{"layer", layer}, {"changed", share}});
  write_file_atomic(change_file(run), Json{{"from_step", half.at("step")}, {"to_step", result.step}, {"layers", layers}}.dump(2) + "\n");
}

bool is_whole(const Recipe& recipe, const RunFolder& run) {
  if (!run.has_checkpoint() || !fs::exists(run.info())) return false;
  const auto files = report::parse_run_info(read_text_file(run.info()), run.info().string());
  return files.final_number("step") == static_cast<double>(recipe.train.steps) && fs::exists(half_file(run)) == fs::exists(change_file(run));
}

TrainStatus train_one(const Recipe& recipe, const RunFolder& run, const ComparisonOptions& options, TrainObserver& observer) {
  const int64_t half = recipe.train.steps / 2;
  HalfWay watch(observer, half);
  TrainRun how{.folder = run.path, .resume = true, .command = options.command, .stop = options.stop};
  if (!options.init.empty() && !run.has_checkpoint()) how.from = load_checkpoint(options.init);
  const bool look = recipe.model.moe && half > 0 && !fs::exists(half_file(run));
  const auto asked = [&] { return options.stop && options.stop(); };
  if (look) how.stop = [&] { return watch.reached() || asked(); };
  TrainResult result = train(recipe, how, watch);
  if (look && result.status == TrainStatus::interrupted && result.step == half && !asked()) {
    write_half(recipe, run, result);
    how.stop = options.stop;
    result = train(recipe, how, watch);
  }
  if (result.status == TrainStatus::finished && fs::exists(half_file(run))) write_change(recipe, run, result);
  return result.status;
}

// Steps per recipe, as they were settled when the comparison began: a budget of time must not be measured twice.
void settle_steps(std::vector<Recipe>& recipes, const ComparisonOptions& options) {
  const Budget budget = parse_budget(options.budget);
  const fs::path file = options.out / "plan.json";
  Json plan = {{"budget", options.budget}, {"steps", Json::object()}};
  if (fs::exists(file)) plan = read_json(file);
  if (plan.at("budget") != options.budget)
    fail(ErrorKind::usage, "{} holds a comparison with the budget {}; choose another folder", options.out.string(), plan.at("budget").dump());
  for (Recipe& recipe : recipes) {
    Json& steps = plan.at("steps")[recipe.name];
    if (steps.is_null()) steps = steps_for(budget, recipe);
    recipe.train.steps = steps.get<int64_t>();
    check_recipe(recipe);
  }
  fs::create_directories(options.out);
  write_file_atomic(file, plan.dump(2) + "\n");
}

void check_names(const std::vector<Recipe>& recipes) {
  std::set<std::string> names;
  for (const Recipe& recipe : recipes)
    if (!names.insert(recipe.name).second) fail(ErrorKind::usage, "two recipes are called '{}'; a comparison needs a name for each", recipe.name);
}

}  // namespace

ComparisonResult run_comparison(std::vector<Recipe> recipes, const ComparisonOptions& options, ComparisonObserver& observer) {
  if (options.seeds < 1) fail(ErrorKind::usage, "compare: {} seeds, expected at least 1", options.seeds);
  check_names(recipes);
  settle_steps(recipes, options);
  ComparisonResult out;
  for (Recipe& recipe : recipes)
    for (recipe.seed = 1; recipe.seed <= options.seeds; ++recipe.seed) {
      const RunFolder run{options.out / fmt::format("{}-{}", recipe.name, recipe.seed)};
      if (!is_whole(recipe, run)) {
        try {
          if (train_one(recipe, run, options, observer.begins(recipe, run.path)) == TrainStatus::interrupted) {
            out.status = TrainStatus::interrupted;
            return out;
          }
        } catch (const Error& error) {
          if (error.kind() != ErrorKind::numeric) throw;
          observer.ends(run.path, error.what());
          continue;
        }
        observer.ends(run.path, "");
      }
      out.runs.push_back(run.path);
    }
  return out;
}

}  // namespace switchyard
