// switchyard recipe: read a recipe without running it
#include "base/files.h"
#include "cli/find_recipe.h"
#include "cli/output.h"
#include "cli/scale.h"
#include "cli/verb.h"
#include "steps/recipe.h"

#include <CLI/CLI.hpp>

namespace switchyard::cli {
namespace {

struct RecipeOptions {
  std::string file, scale;
  std::vector<std::string> set;
  bool full = false;
};

void add_common(CLI::App& verb, const std::shared_ptr<RecipeOptions>& opt) {
  verb.add_option("recipe", opt->file, "recipe file, or the name of a recipe that comes with the program")->required()->type_name("RECIPE");
  verb.add_option("--set", opt->set, "override a key; may be given again")->type_name("KEY=VALUE")->allow_extra_args(false);
  add_scale_option(verb, opt->scale);
}

void add_check(CLI::App& verb) {
  auto opt = std::make_shared<RecipeOptions>();
  add_common(verb, opt);
  verb.footer("Examples:\n  switchyard recipe check my.toml\n  switchyard recipe check demo/moe --set model.moe.num_experts=16");
  verb.callback([opt] {
    const auto path = find_recipe(opt->file);
    Recipe recipe = load_recipe(path, opt->set);
    scale_recipe(recipe, opt->scale);
    const auto count = count_parameters(resolved_model(recipe));
    print_result("{}: ok: '{}', {} parameters ({} active per token), {} steps\n", path.string(), recipe.name,
          format_count(static_cast<double>(count.total)), format_count(static_cast<double>(count.active)), recipe.train.steps);
  });
}

void add_show(CLI::App& verb) {
  auto opt = std::make_shared<RecipeOptions>();
  add_common(verb, opt);
  verb.add_flag("--full", opt->full, "every value that will be used, defaults included; always so with --set and --scale");
  verb.footer("Examples:\n  switchyard recipe show demo/moe\n  switchyard recipe show my.toml --full --set train.steps=100");
  verb.callback([opt] {
    const auto path = find_recipe(opt->file);
    Recipe recipe = load_recipe(path, opt->set);
    scale_recipe(recipe, opt->scale);
    write_result(opt->full || !opt->set.empty() || !opt->scale.empty() ? show_recipe(recipe) : read_text_file(path));
  });
}

}  // namespace

VerbEntry verb_recipe() {
  return {"recipe", 60, "Check a recipe, or show it with every default filled in", [](CLI::App& verb) {
            verb.require_subcommand(1);
            add_check(*verb.add_subcommand("check", "Read and check a recipe"));
            add_show(*verb.add_subcommand("show", "Print a recipe"));
            verb.footer("Examples:\n  switchyard recipe check my.toml\n  switchyard recipe show demo/moe --full");
          }};
}

}  // namespace switchyard::cli
