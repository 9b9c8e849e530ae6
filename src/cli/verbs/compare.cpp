// switchyard compare: recipes under one budget, or on the routing bench, over several seeds
#include "base/files.h"
#include "cli/command_line.h"
#include "cli/compare_rules.h"
#include "cli/find_model.h"
#include "cli/exit_code.h"
#include "cli/output.h"
#include "cli/train_progress.h"
#include "cli/training_recipe.h"
#include "cli/verb.h"
#include "report/comparison.h"
#include "report/measures.h"
#include "report/measures_file.h"
#include "steps/bench_comparison.h"
#include "steps/comparison.h"
#include "steps/interrupt.h"
#include "steps/run_folder.h"
#include "switchyard/error.h"

#include <ATen/Parallel.h>
#include <CLI/CLI.hpp>

#include <optional>

namespace switchyard::cli {
namespace {

struct CompareArguments {
  std::vector<std::string> recipes, set, without;
  std::string task = "text", budget, out, objective, init, rules, title, about;
  int64_t seeds = 3, steps = 300;
  int threads = 0;
  bool json = false, quiet = false;
};

// One line per run that begins, and its progress.
class CompareProgress final : public ComparisonObserver {
 public:
  explicit CompareProgress(bool quiet) : quiet_(quiet) {}
  TrainObserver& begins(const Recipe& recipe, const std::filesystem::path& folder) override {
    if (!quiet_) note("{}: {} steps of {} tokens", folder.string(), recipe.train.steps, recipe.train.batch_size * recipe.train.seq_len);
    return progress_.emplace(quiet_, recipe.train.log_every);
  }
  void ends(const std::filesystem::path& folder, const std::string& failure) override {
    progress_.reset();
    if (!failure.empty()) note("{}: left out: {}", folder.string(), failure);
  }
  void close() { progress_.reset(); }

 private:
  bool quiet_;
  std::optional<TrainProgress> progress_;
};

void print_measures(const report::MeasureTable& table) {
  std::vector<Column> columns = {{"recipe"}, {"seeds", true}};
  for (const auto& measure : table.measures) columns.push_back({measure.title, true});
  std::vector<std::vector<std::string>> rows;
  for (const auto& row : table.rows) {
    auto& cells = rows.emplace_back(std::vector<std::string>{row.name, std::to_string(row.seeds)});
    for (size_t m = 0; m < table.measures.size(); ++m) cells.push_back(report::measure_text(table.measures[m], row.values[m]));
  }
  write_result(format_table(columns, rows));
}

// The table on stdout, compare.json and compare.html in `out` unless it is empty.
void finish(const CompareArguments& args, const report::MeasureTable& table, nlohmann::ordered_json facts, const std::string& page) {
  facts.update({{"title", args.title}, {"about", args.about}, {"command", command_line()}, {"machine", machine_name()}});
  facts["measures"] = report::measures_json(table);
  facts["recipes"] = report::to_json(table);
  args.json ? print_json(facts) : print_measures(table);
  if (args.out.empty()) return;
  const std::filesystem::path out = args.out;
  std::filesystem::create_directories(out);
  write_file_atomic(out / "compare.json", facts.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
  write_file_atomic(out / "compare.html", page);
  if (!args.json) print_result("\n{}\n{}\n", (out / "compare.json").string(), (out / "compare.html").string());
}

std::vector<Recipe> compared_recipes(const CompareArguments& args) {
  std::vector<std::string> set = args.set;
  if (args.threads > 0) set.push_back("train.threads=" + std::to_string(args.threads));
  std::vector<Recipe> recipes;
  const std::filesystem::path init = args.init.empty() ? "" : find_model(args.init);
  for (const auto& word : args.recipes) {
    recipes.push_back(training_recipe(word, init, set));
    if (!args.objective.empty() && recipes.back().model.causal != (args.objective == "next")) recipes.pop_back();
  }
  if (recipes.empty()) fail(ErrorKind::usage, "none of the {} recipes has the objective '{}'", args.recipes.size(), args.objective);
  return recipes;
}

// The loss of the next token and that of a masked one are losses of different questions.
void check_one_objective(const std::vector<Recipe>& recipes) {
  for (const Recipe& recipe : recipes)
    if (recipe.model.causal != recipes[0].model.causal)
      fail(ErrorKind::usage, "recipe '{}' predicts the {} token and '{}' {}: their losses do not compare; --objective next or --objective masked takes those of one kind",
           recipes[0].name, recipes[0].model.causal ? "next" : "masked", recipe.name, recipe.model.causal ? "the next one" : "masked ones");
}

void compare_on_clusters(CompareArguments args) {
  if (!args.budget.empty()) fail(ErrorKind::usage, "--budget is for --task text; the routing bench takes --steps");
  if (args.title.empty()) args.title = "Gates on the routing bench";
  if (args.about.empty()) args.about = fmt::format("Clustered linear regression through one layer of eight linear experts: {} steps, {} seeds.", args.steps, args.seeds);
  if (args.threads > 0) at::set_num_threads(args.threads);
  const auto table = bench_recipes(compared_recipes(args), {.seeds = args.seeds, .steps = args.steps}, [&](const std::string& line) {
    if (!args.quiet) write_note(line);
  });
  finish(args, table, {{"task", "clusters"}, {"seeds", args.seeds}, {"steps", args.steps}},
         report::render_measures(table, args.title, args.about));
}

void compare_on_text(CompareArguments args) {
  if (args.budget.empty()) fail(ErrorKind::usage, "no budget given; expected --budget steps=N, flops=X or time=60s");
  if (args.out.empty()) args.out = "runs/compare";
  if (args.title.empty()) args.title = "Comparison of recipes";
  if (args.about.empty()) args.about = "Budget of each run: " + args.budget + ".";
  const auto recipes = compared_recipes(args);
  check_one_objective(recipes);
  const InterruptScope interrupts;
  CompareProgress progress(args.quiet);
  const auto result = run_comparison(recipes, {.out = args.out, .budget = args.budget, .seeds = args.seeds, .init = args.init.empty() ? "" : find_model(args.init),
                                                  .command = command_line(), .stop = interrupt_requested}, progress);
  progress.close();
  if (result.status == TrainStatus::interrupted) {
    note("interrupted; what was trained is saved in {}; the same command goes on", args.out);
    throw Exit{kInterrupted};
  }
  if (result.runs.empty()) fail(ErrorKind::numeric, "no run of this comparison came to its end");
  std::vector<report::RunFiles> runs;
  for (const auto& folder : result.runs) runs.push_back(report::read_run(folder.string()));
  const auto comparison = report::compare(std::move(runs));
  auto table = report::measure_runs(comparison.groups);
  report::drop_measures(table, args.without);
  finish(args, table, {{"task", "text"}, {"budget", args.budget}, {"seeds", args.seeds}},
         report::render_comparison(comparison, args.title, args.about, &table));
}

void compare_rules_of_inference(CompareArguments args) {
  if (args.rules.empty()) fail(ErrorKind::usage, "no rules given; expected --rules FILE");
  if (args.title.empty()) args.title = "Rules of inference on trained models";
  if (args.threads > 0) at::set_num_threads(args.threads);
  const InterruptScope interrupts;
  const auto table = compare_rules(read_rules(args.rules), args.recipes, [&](const std::string& line) {
    if (!args.quiet) write_note(line);
  });
  finish(args, table, {{"task", "rules"}, {"models", args.recipes}}, report::render_measures(table, args.title, args.about));
}

}  // namespace

VerbEntry verb_compare() {
  return {"compare", 45, "Train recipes under one budget over several seeds and compare loss, routing and cost", [](CLI::App& verb) {
            auto args = std::make_shared<CompareArguments>();
            verb.add_option("recipes", args->recipes, "recipe files or names, the first dense one is the measure of step times; for --task rules: models or runs, the seeds of one recipe")
                ->required()
                ->type_name("RECIPE ...");
            verb.add_option("--task", args->task, "text: train the recipes; clusters: their gates on the routing bench, seconds each; rules: trained models under rules of inference")
                ->type_name("text|clusters|rules")
                ->check(CLI::IsMember({"text", "clusters", "rules"}).description(""));
            verb.add_option("--objective", args->objective, "of the recipes given, only those that predict the next token, or masked ones")
                ->type_name("next|masked")
                ->check(CLI::IsMember({"next", "masked"}).description(""));
            verb.add_option("--init", args->init, "text: every run starts from the weights and the tokenizer of this model")->type_name("MODEL-DIR");
            verb.add_option("--rules", args->rules, "rules: a TOML file of [[rule]] tables; recipes/boards/inference.toml is one")->type_name("FILE");
            verb.add_option("--without", args->without, "text: keys of measures that are left out: step_ms,step_over_dense when runs share the machine with others")
                ->delimiter(',')
                ->type_name("KEYS")
                ->allow_extra_args(false);
            verb.add_option("--title", args->title, "of the page")->type_name("TEXT");
            verb.add_option("--about", args->about, "a sentence under it")->type_name("TEXT");
            verb.add_option("--seeds", args->seeds, "runs of each recipe")->type_name("N")->check(CLI::Range(1, 1000).description(""));
            verb.add_option("--budget", args->budget, "text: what every run may spend: steps=N, flops=X (forward and backward), time=60s")->type_name("WHAT=AMOUNT");
            verb.add_option("--steps", args->steps, "clusters: training steps")->type_name("N")->check(CLI::Range(1, 1000000).description(""));
            verb.add_option("--out", args->out, "folder of the runs, compare.json and compare.html; text: default runs/compare, goes on with what is there")->type_name("DIR");
            verb.add_option("--set", args->set, "override a key of every recipe; may be given again")->type_name("KEY=VALUE")->allow_extra_args(false);
            verb.add_option("--threads", args->threads, "threads that compute; 0 = what the recipes say, else all cores")->type_name("N")->check(CLI::Range(0, 4096).description(""));
            verb.add_flag("--json", args->json, "the figures as JSON");
            verb.add_flag("--quiet", args->quiet, "no progress");
            verb.footer("Examples:\n  switchyard compare demo/dense demo/moe --budget flops=1e13 --out runs/fair\n"
                        "  switchyard compare --task clusters switch expert-choice mixtral-gate --seeds 3");
            verb.callback([args] {
              if (args->task == "clusters") return compare_on_clusters(*args);
              args->task == "rules" ? compare_rules_of_inference(*args) : compare_on_text(*args);
            });
          }};
}

}  // namespace switchyard::cli
