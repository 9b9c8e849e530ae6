// switchyard search: a better block for a recipe, among programs drawn at random
#include "base/files.h"
#include "cli/output.h"
#include "cli/train_progress.h"
#include "cli/training_recipe.h"
#include "cli/verb.h"
#include "steps/pattern_search.h"
#include "switchyard/error.h"

#include <CLI/CLI.hpp>

namespace switchyard::cli {
namespace {

struct SearchArguments {
  std::string recipe, out = "runs/search";
  std::vector<std::string> set;
  SearchOptions search;
  bool json = false, quiet = false;
};

std::string words_of(const ModelSpec& spec) {
  std::string out;
  for (const LayerSpec& layer : spec.pattern) {
    out += (out.empty() ? "" : " ") + layer.kind;
    if (layer.d_ff > 0) out += fmt::format("({} {})", layer.ffn ? layer.ffn->kind : spec.ffn.kind, layer.d_ff);
    if (layer.d_expert > 0) {
      const ConfigNode* kind = layer.moe.find("experts");
      out += fmt::format("({} {})", kind && kind->string() ? *kind->string() : spec.moe->experts.kind, layer.d_expert);
    }
  }
  return out.empty() ? "the recipe as it stands" : out;
}

void run_search(SearchArguments args) {
  const Recipe recipe = training_recipe(args.recipe, "", args.set);
  args.search.out = args.out;
  TrainProgress progress(args.quiet, recipe.train.log_every);
  const auto found = search_programs(recipe, args.search, progress);
  const auto best = std::filesystem::path(args.out) / "best.toml";
  write_file_atomic(best, show_recipe(found.front().recipe));
  nlohmann::ordered_json programs = nlohmann::ordered_json::array();
  std::vector<std::vector<std::string>> rows;
  for (const SearchedProgram& p : found) {
    programs.push_back({{"name", p.recipe.name}, {"loss", p.loss}, {"flops_per_token", p.size.flops_per_token}, {"parameters", p.size.total}, {"active", p.size.active},
                        {"layers", p.recipe.model.num_layers}, {"pattern", words_of(p.recipe.model)}});
    rows.push_back({p.recipe.name, fmt::format("{:.4f}", p.loss), format_count(p.size.flops_per_token), format_count(static_cast<double>(p.size.total)),
                    std::to_string(p.recipe.model.num_layers), words_of(p.recipe.model)});
  }
  if (args.json) return print_json({{"recipe", recipe.name}, {"seed", args.search.seed}, {"steps", args.search.steps}, {"best", best.string()}, {"programs", programs}});
  write_result(format_table({{"program"}, {"loss", true}, {"FLOPs/token", true}, {"parameters", true}, {"layers", true}, {"parts"}}, rows));
  print_result("\n{}\n", best.string());
}

}  // namespace

VerbEntry verb_search() {
  return {"search", 46, "Search a better list of layers for a recipe, at no more FLOPs per token", [](CLI::App& verb) {
            auto args = std::make_shared<SearchArguments>();
            verb.add_option("recipe", args->recipe, "recipe file or name; its model has experts and bounds the FLOPs")->required()->type_name("RECIPE");
            verb.add_option("--programs", args->search.programs, "lists that are drawn and trained, besides the recipe's own")->type_name("N")->check(CLI::Range(1, 10000).description(""));
            verb.add_option("--steps", args->search.steps, "training steps of each")->type_name("N")->check(CLI::PositiveNumber.description(""));
            verb.add_option("--seed", args->search.seed, "of the draws")->type_name("N");
            verb.add_option("--out", args->out, "folder of the runs and of best.toml; the same command goes on in it")->type_name("DIR");
            verb.add_option("--set", args->set, "change one key: --set train.batch_size=4")->type_name("KEY=VALUE")->allow_extra_args(false);
            verb.add_flag("--json", args->json, "machine-readable output");
            verb.add_flag("--quiet", args->quiet, "no progress");
            verb.footer("Examples:\n  switchyard search brainformer --programs 12 --steps 200\n  switchyard search demo/moe --programs 30 --seed 2 --out runs/search2 --json");
            verb.callback([args] { run_search(*args); });
          }};
}

}  // namespace switchyard::cli
