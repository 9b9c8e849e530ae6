// switchyard train: a recipe in, a run folder out
#include "cli/after_training.h"
#include "cli/command_line.h"
#include "cli/device_option.h"
#include "cli/exit_code.h"
#include "cli/find_model.h"
#include "cli/output.h"
#include "cli/scale.h"
#include "cli/train_progress.h"
#include "cli/training_recipe.h"
#include "cli/verb.h"
#include "core/device.h"
#include "kernels/isa.h"
#include "steps/dry_run.h"
#include "steps/interrupt.h"
#include "steps/run_folder.h"
#include "steps/train.h"
#include "switchyard/error.h"

#include <ATen/Parallel.h>
#include <CLI/CLI.hpp>

namespace switchyard::cli {
namespace {

struct TrainArguments {
  std::string recipe, out, init, scale, device = "cpu";
  std::vector<std::string> set;
  int threads = 0;
  bool resume = false, dry_run = false, json = false, quiet = false;
};

Recipe read_recipe(TrainArguments& args, const std::filesystem::path& init) {
  if (args.threads > 0) args.set.push_back("train.threads=" + std::to_string(args.threads));
  if (args.recipe.empty() && !(args.resume && !args.out.empty()))
    fail(ErrorKind::usage, "no recipe given; expected a file, or the name of one of `switchyard list recipes`");
  Recipe recipe = args.recipe.empty() ? recipe_of_run(args.out, args.set) : training_recipe(args.recipe, init, args.set, args.scale);
  fill_in_corpus(recipe);
  if (recipe.train.threads > 0) at::set_num_threads(static_cast<int>(recipe.train.threads));
  return recipe;
}

void print_dry_run(const Recipe& recipe, bool json) {
  const DryRun d = dry_run(recipe);
  if (json) return print_json(to_json(d));
  const auto bytes = [](int64_t n) { return format_bytes(static_cast<double>(n)); };
  print_result("parameters   {} ({} active per token)\n", d.parameters.total, d.parameters.active);
  print_result("memory       {}: weights {}, gradients {}, moments {}, logits {}, activations {}\n", bytes(d.memory()), bytes(d.weights),
               bytes(d.gradients), bytes(d.moments), bytes(d.logits), d.measured ? bytes(d.activations) : "unknown");
  print_result("             {} available\n", bytes(d.available));
  print_result("disk         {}\n", bytes(d.disk));
  if (d.measured)
    print_result("time         {} for {} steps of {:.3f} s, {} tokens\n", format_seconds(d.train_seconds), recipe.train.steps, d.step_seconds,
                 format_count(static_cast<double>(d.tokens)));
  else
    print_result("time         unknown: it would not fit into memory\n");
}

void announce(const Recipe& recipe, const torch::Device& device, const std::string& out) {
  const auto count = count_parameters(resolved_model(recipe));
  note("'{}': {} parameters, {} active per token; {} steps of {} tokens; {} threads, {} kernels{}; into {}", recipe.name,
       format_count(static_cast<double>(count.total)), format_count(static_cast<double>(count.active)), recipe.train.steps,
       recipe.train.batch_size * recipe.train.seq_len, at::get_num_threads(), kernels::name_of(kernels::selected_isa()),
       device.is_cpu() ? "" : ", on " + device.str(), out);
}

nlohmann::ordered_json result_json(const TrainResult& result, const RunFolder& run, const TrainingPages& pages) {
  nlohmann::ordered_json out = {{"status", result.status == TrainStatus::finished ? "finished" : "interrupted"}, {"step", result.step}, {"run", run.path.string()},
                                {"last", run.last().string()}, {"metrics", run.metrics().string()}};
  if (result.best_step > 0) out.update({{"best", run.best().string()}, {"best_loss", result.best_loss}, {"best_step", result.best_step}});
  if (const auto& e = result.evaluation)
    out.update({{"loss", e->loss}, {"loss_se", e->loss_se}, {"perplexity", e->perplexity}, {"perplexity_se", e->perplexity_se}, {"bits_per_byte", e->bits_per_byte}});
  if (!pages.sample.empty()) out["sample"] = pages.sample.string();
  if (!pages.report.empty()) out["report"] = pages.report.string();
  return out;
}

void print_train_result(const TrainResult& result, const RunFolder& run, const TrainingPages& pages) {
  print_result("finished     step {}\n", result.step);
  if (const auto& e = result.evaluation)
    print_result("validation   loss {:.4f} ± {:.4f}, perplexity {:.3f} ± {:.3f}, {:.4f} bits per byte\n", e->loss, e->loss_se, e->perplexity, e->perplexity_se,
                 e->bits_per_byte);
  if (result.best_step > 0) print_result("best         {}  (loss {:.4f} at step {})\n", run.best().string(), result.best_loss, result.best_step);
  print_result("last         {}\nmetrics      {}\n", run.last().string(), run.metrics().string());
  if (!pages.sample.empty()) print_result("sample       {}\n", pages.sample.string());
  if (!pages.report.empty()) print_result("report       {}\n", pages.report.string());
  print_result("next         switchyard generate {} \"Once upon a time\"\n", run.path.string());
}

void run_train(TrainArguments args) {
  const std::filesystem::path init = args.init.empty() ? "" : find_model(args.init);
  const Recipe recipe = read_recipe(args, init);
  if (args.dry_run) return print_dry_run(recipe, args.json);
  const RunFolder run{args.out.empty() ? "runs/" + recipe.name : args.out};
  const InterruptScope interrupts;
  TrainRun how{.folder = run.path, .resume = args.resume, .device = parse_device(args.device), .command = command_line(), .stop = interrupt_requested};
  if (!init.empty()) how.from = load_checkpoint(init);
  if (!args.quiet) announce(recipe, how.device, run.path.string());
  if (const auto& o = recipe.train.optimizer; init.empty() && !args.resume && !args.quiet && !(o.train_only.empty() && o.freeze.empty()))
    note("what train.optimizer leaves out keeps its random initial weights; --init MODEL-DIR starts from a trained model");
  TrainResult result;
  {
    TrainProgress progress(args.quiet, recipe.train.log_every);
    result = train(recipe, how, progress);
  }
  if (result.status == TrainStatus::interrupted) {
    note("interrupted at step {}; saved in {}; go on with: switchyard train --resume --out {}", result.step, run.last().string(), run.path.string());
    if (args.json) print_json(result_json(result, run, {}));
    flush_result();
    throw Exit{kInterrupted};
  }
  const TrainingPages pages = write_training_pages(run.path, recipe, result);
  args.json ? print_json(result_json(result, run, pages)) : print_train_result(result, run, pages);
}

}  // namespace

VerbEntry verb_train() {
  return {"train", 10, "Train a model by a recipe", [](CLI::App& verb) {
            auto args = std::make_shared<TrainArguments>();
            verb.add_option("recipe", args->recipe, "recipe file, or name of a recipe (`switchyard list recipes`); --resume --out DIR may do without")
                ->type_name("RECIPE");
            verb.add_option("--out", args->out, "folder of the run; default: runs/NAME-OF-THE-RECIPE")->type_name("DIR");
            verb.add_flag("--resume", args->resume, "go on with the run in that folder; from the beginning when there is none");
            verb.add_option("--init", args->init, "start from the weights and the tokenizer of this model")->type_name("MODEL-DIR");
            verb.add_flag("--dry-run", args->dry_run, "print the memory, time and disk it will need, and train nothing");
            add_scale_option(verb, args->scale);
            verb.add_option("--set", args->set, "override a key of the recipe; may be given again")->type_name("KEY=VALUE")->allow_extra_args(false);
            verb.add_option("--threads", args->threads, "threads that compute; 0 = what the recipe says, else OMP_NUM_THREADS, else all cores")
                ->type_name("N")
                ->check(CLI::Range(0, 4096).description(""));
            add_device_option(verb, args->device);
            verb.add_flag("--json", args->json, "the result as JSON");
            verb.add_flag("--quiet", args->quiet, "no progress");
            verb.footer("Examples:\n  switchyard train demo/moe --out runs/demo\n"
                        "  switchyard train my.toml --set train.steps=200 --set model.moe.num_experts=16 --dry-run");
            verb.callback([args] { run_train(*args); });
          }};
}

}  // namespace switchyard::cli
