// switchyard task: a published model on made-up data, and what it reaches
#include "cli/find_recipe.h"
#include "cli/output.h"
#include "cli/threads.h"
#include "cli/verb.h"
#include "vision/task_recipe.h"

#include <CLI/CLI.hpp>

namespace switchyard::cli {
namespace {

struct TaskArguments {
  std::string recipe;
  std::vector<std::string> set;
  int64_t steps = 0, seed = -1;
  bool json = false, quiet = false;
};

void run_task(const TaskArguments& args) {
  const TaskRecipe recipe = load_task_recipe(find_recipe(args.recipe), args.set);
  const uint64_t seed = static_cast<uint64_t>(args.seed >= 0 ? args.seed : recipe.seed);
  const auto task = task_registry().make(recipe.task);
  const auto measures = task->run({.seed = seed, .steps = args.steps, .note = [&](const std::string& line) {
                                     if (!args.quiet) note("{}", line);
                                   }});
  if (args.json) {
    nlohmann::ordered_json out = {{"task", recipe.task.kind}, {"seed", seed}};
    for (const Measure& m : measures) out["measures"][m.name] = m.value;
    return print_json(out);
  }
  std::vector<std::vector<std::string>> rows;
  for (const Measure& m : measures) rows.push_back({m.name, fmt::format("{:.4g}", m.value)});
  write_result(format_table({{"measure"}, {"value", true}}, rows));
}

}  // namespace

VerbEntry verb_task() {
  return {"task", 47, "Run a published model on made-up data and print what it reaches", [](CLI::App& verb) {
            auto args = std::make_shared<TaskArguments>();
            verb.add_option("recipe", args->recipe, "recipe file or name with a [task]: `switchyard list tasks` prints the kinds")->required()->type_name("RECIPE");
            verb.add_option("--steps", args->steps, "of training; 0 = as the recipe says")->type_name("N")->check(CLI::NonNegativeNumber.description(""));
            verb.add_option("--seed", args->seed, "of data and weights; default: that of the recipe")->type_name("N")->check(CLI::NonNegativeNumber.description(""));
            verb.add_option("--set", args->set, "change one key: --set task.experts=1")->type_name("KEY=VALUE")->allow_extra_args(false);
            add_threads_option(verb);
            verb.add_flag("--json", args->json, "machine-readable output");
            verb.add_flag("--quiet", args->quiet, "no progress");
            verb.footer("Examples:\n  switchyard task cubic-cnn-mixture\n  switchyard task cubic-cnn-mixture --set task.experts=1 --set task.filters=64 --json");
            verb.callback([args] { run_task(*args); });
          }};
}

}  // namespace switchyard::cli
