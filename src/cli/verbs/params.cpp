// switchyard params: how large a model is, without building it
#include "cli/find_model.h"
#include "cli/find_recipe.h"
#include "cli/output.h"
#include "cli/verb.h"
#include "steps/recipe.h"
#include "switchyard/checkpoint.h"
#include "switchyard/error.h"

#include <CLI/CLI.hpp>

namespace switchyard::cli {
namespace {

struct ParamsOptions {
  std::string model;
  std::vector<std::string> set;
  bool json = false;
};

ModelSpec spec_of(const ParamsOptions& opt) {
  if (!is_model_dir(opt.model)) return resolved_model(load_recipe(find_recipe(opt.model), opt.set));
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

}  // namespace

VerbEntry verb_params() {
  return {"params", 50, "Count the parameters of a model by part: total, active per token, FLOPs per token", [](CLI::App& verb) {
            auto opt = std::make_shared<ParamsOptions>();
            verb.add_option("model", opt->model, "recipe file, name of a recipe (`switchyard list recipes`), or model folder")
                ->required()
                ->type_name("RECIPE|MODEL-DIR");
            verb.add_option("--set", opt->set, "override a key of the recipe; may be given again")->type_name("KEY=VALUE")->allow_extra_args(false);
            verb.add_flag("--json", opt->json, "machine-readable output");
            verb.footer("Examples:\n  switchyard params mixtral-8x7b\n  switchyard params my.toml --set model.moe.num_experts=64 --json");
            verb.callback([opt] {
              const auto count = count_parameters(spec_of(*opt));
              opt->json ? print_json(parts_json(count)) : print_parts(count);
            });
          }};
}

}  // namespace switchyard::cli
