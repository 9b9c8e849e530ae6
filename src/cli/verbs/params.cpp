// switchyard params: how large a model is, without building it
#include "cli/find_model.h"
#include "cli/find_recipe.h"
#include "cli/output.h"
#include "cli/published.h"
#include "cli/scale.h"
#include "cli/verb.h"
#include "steps/recipe.h"
#include "switchyard/checkpoint.h"
#include "switchyard/error.h"

#include <CLI/CLI.hpp>

namespace switchyard::cli {
namespace {

struct ParamsOptions {
  std::string model, scale;
  std::vector<std::string> set;
  bool json = false, table = false;
};

ModelSpec spec_of(const ParamsOptions& opt) {
  if (!is_model_dir(opt.model)) {
    Recipe recipe = load_recipe(find_recipe(opt.model), opt.set);
    scale_recipe(recipe, opt.scale);
    return resolved_model(recipe);
  }
  if (!opt.scale.empty()) fail(ErrorKind::usage, "--scale makes a miniature of a recipe; {} is a model", opt.model);
  if (!opt.set.empty()) fail(ErrorKind::usage, "--set changes a recipe; {} is a model", opt.model);
  return load_spec(find_model(opt.model));
}

void print_parts(const ParameterCount& count) {
  std::vector<std::vector<std::string>> rows;
  for (const auto& part : count.parts)
    rows.push_back({part.name, std::to_string(part.total), std::to_string(part.active), format_count(part.flops_per_token)});
  rows.push_back({"sum", std::to_string(count.total), std::to_string(count.active), format_count(count.flops_per_token)});
  write_result(format_table({{"part"}, {"parameters", true}, {"active per token", true}, {"FLOPs per token", true}}, rows));
}

nlohmann::ordered_json parts_json(const ParameterCount& count) {
  nlohmann::ordered_json out = {{"total", count.total}, {"active", count.active}, {"flops_per_token", count.flops_per_token}};
  out["parts"] = nlohmann::ordered_json::array();
  for (const auto& part : count.parts)
    out["parts"].push_back({{"name", part.name}, {"total", part.total}, {"active", part.active}, {"flops_per_token", part.flops_per_token}});
  return out;
}

// Every preset: what its recipe counts beside what was published.
void print_table(bool json) {
  auto all = nlohmann::ordered_json::array();
  std::vector<std::vector<std::string>> rows;
  for (const auto& preset : published_models()) {
    const auto count = count_parameters(resolved_model(load_recipe(find_recipe("models/" + preset.id))));
    rows.push_back({preset.id, std::to_string(count.total), preset.total, format_count(static_cast<double>(count.active)), preset.active, preset.remark});
    all.push_back({{"id", preset.id}, {"total", count.total}, {"active", count.active}, {"published_total", preset.total}, {"published_active", preset.active}, {"remark", preset.remark}});
  }
  if (json) return print_json(all);
  write_result(format_table({{"preset"}, {"parameters", true}, {"published", true}, {"active", true}, {"published", true}, {"remark"}}, rows));
}

void run(const ParamsOptions& opt) {
  if (opt.table) {
    if (!opt.model.empty()) fail(ErrorKind::usage, "--table goes over all presets; it takes no model");
    return print_table(opt.json);
  }
  if (opt.model.empty()) fail(ErrorKind::usage, "no model given; expected a recipe, a model folder, or --table");
  const auto count = count_parameters(spec_of(opt));
  opt.json ? print_json(parts_json(count)) : print_parts(count);
}

}  // namespace

VerbEntry verb_params() {
  return {"params", 50, "Count the parameters of a model by part: total, active per token, FLOPs per token", [](CLI::App& verb) {
            auto opt = std::make_shared<ParamsOptions>();
            verb.add_option("model", opt->model, "recipe file, name of a recipe (`switchyard list recipes`), or model folder")
                ->type_name("RECIPE|MODEL-DIR");
            verb.add_option("--set", opt->set, "override a key of the recipe; may be given again")->type_name("KEY=VALUE")->allow_extra_args(false);
            add_scale_option(verb, opt->scale);
            verb.add_flag("--table", opt->table, "all published models that come as recipes: computed beside published");
            verb.add_flag("--json", opt->json, "machine-readable output");
            verb.footer("Examples:\n  switchyard params mixtral-8x7b\n  switchyard params --table\n  switchyard params deepseek-v3 --scale tiny\n  switchyard params my.toml --set model.moe.num_experts=64 --json");
            verb.callback([opt] { run(*opt); });
          }};
}

}  // namespace switchyard::cli
