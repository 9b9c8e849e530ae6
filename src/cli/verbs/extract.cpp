// switchyard extract: the part of a model that one tag uses, as a model of its own
#include "cli/find_model.h"
#include "cli/output.h"
#include "cli/verb.h"
#include "models/tag_model.h"
#include "switchyard/checkpoint.h"
#include "switchyard/error.h"

#include <CLI/CLI.hpp>

#include <filesystem>

namespace switchyard::cli {
namespace {

struct ExtractOptions {
  std::string model, out;
  int64_t tag = -1;
  bool json = false;
};

std::shared_ptr<LanguageModel> part_of(LanguageModel& model, int64_t tag) {
  try {
    return model_of_tag(model, tag);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::config && error.kind() != ErrorKind::usage) throw;
    fail(ErrorKind::usage, "--tag {}: {}", tag, error.what());  // the model is whole: it has no such tag
  }
}

void extract(const ExtractOptions& opt) {
  if (std::filesystem::exists(opt.out) && !std::filesystem::is_empty(opt.out))
    fail(ErrorKind::usage, "{} exists and is not empty; extract writes to a new folder", opt.out);
  const Checkpoint whole = load_checkpoint(find_model(opt.model));
  Checkpoint part;
  part.model = part_of(*whole.model, opt.tag);
  part.tokenizer = whole.tokenizer;
  save_checkpoint(part, opt.out);

  const ModelSpec &before = whole.model->spec(), &after = part.model->spec();
  const int64_t of = count_parameters(before).total, left = count_parameters(after).total;
  const bool drops = before.moe->capacity.eval_factor > 0;
  if (drops) note("{} evaluates with capacity.eval_factor = {}: where it drops choices, the extracted model does not", opt.model, before.moe->capacity.eval_factor);
  if (!opt.json) {
    print_result("{}: tag {}, {} of {} experts in each of {} layers, {} of {} parameters\n", opt.out, opt.tag, after.moe->num_experts, before.moe->num_experts,
                 part.model->moe_layers().size(), format_count(static_cast<double>(left)), format_count(static_cast<double>(of)));
    return;
  }
  print_json({{"out", opt.out}, {"tag", opt.tag}, {"experts", after.moe->num_experts}, {"of_experts", before.moe->num_experts},
              {"moe_layers", part.model->moe_layers().size()}, {"parameters", left}, {"of_parameters", of}, {"original_drops", drops}});
}

}  // namespace

VerbEntry verb_extract() {
  return {"extract", 92, "Write the part of a model that one tag (task, language, domain) uses as a model of its own", [](CLI::App& verb) {
            auto opt = std::make_shared<ExtractOptions>();
            verb.add_option("model", opt->model, "model folder or run; its gate goes by tags")->required()->type_name("MODEL-DIR");
            verb.add_option("out", opt->out, "folder to be made")->required()->type_name("DIR");
            verb.add_option("--tag", opt->tag, "number of the tag: of a domain, in alphabetical order")->required()->check(CLI::NonNegativeNumber)->type_name("N");
            verb.add_flag("--json", opt->json, "machine-readable output");
            verb.footer("Examples:\n  switchyard extract runs/task-level-gate french --tag 1\n  switchyard extract runs/demix/best law --tag 3 --json");
            verb.callback([opt] { extract(*opt); });
          }};
}

}  // namespace switchyard::cli
