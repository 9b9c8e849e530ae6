// switchyard eval: how well a model predicts a text
#include "cli/device_option.h"
#include "cli/evaluation_text.h"
#include "cli/exit_code.h"
#include "cli/find_model.h"
#include "cli/output.h"
#include "cli/threads.h"
#include "cli/verb.h"
#include "cli/weights_option.h"
#include "eval/eval_rule.h"
#include "steps/interrupt.h"
#include "switchyard/checkpoint.h"
#include "switchyard/error.h"

#include <CLI/CLI.hpp>
#include <fmt/ranges.h>

#include <cmath>

namespace switchyard::cli {
namespace {

struct EvalArguments {
  std::string model, data, split, dtype = "float32", weights = "plain", device = "cpu";
  int64_t seq_len = 0, max_tokens = 0;
  EvalRule rule;
  bool json = false;
};

void run_eval(const EvalArguments& args) {
  const auto folder = find_model(args.model);
  const Checkpoint checkpoint = load_on_device(folder, args.weights, args.device);
  if (!checkpoint.tokenizer) fail(ErrorKind::checkpoint, "{}: no tokenizer.json; text cannot become tokens", folder.string());
  const auto text = open_evaluation_text(folder, args.data, args.split, *checkpoint.tokenizer);
  const int64_t seq_len = window_length(args.seq_len, text, checkpoint.model->spec());
  const InterruptScope interrupts;
  const auto measured = evaluate_rule(
      *checkpoint.model, text.stream(),
      {.seq_len = seq_len, .max_tokens = args.max_tokens, .cross_documents = text.cross_documents, .compute = parse_compute_type(args.dtype)}, args.rule,
      interrupt_requested);
  if (!measured) throw Exit{kInterrupted};
  const EvalResult* result = &measured->eval;
  if (args.json) {
    nlohmann::ordered_json out = {{"loss", result->loss}, {"loss_se", result->loss_se}, {"perplexity", result->perplexity}, {"perplexity_se", result->perplexity_se},
                       {"bits_per_byte", result->bits_per_byte}, {"tokens", result->tokens}, {"windows", result->windows}, {"seq_len", seq_len},
                       {"accuracy", std::isfinite(result->accuracy) ? nlohmann::ordered_json(result->accuracy) : nlohmann::ordered_json(nullptr)},
                       {"model", folder.string()}, {"data", text.path.string()}, {"split", text.split}};
    if (args.rule.domains > 0) out.update({{"domain_posterior", measured->posterior}, {"domain_prior", measured->prior}});
    return print_json(out);
  }
  print_result("model          {}\ntext           {} ({})\ntokens         {} in {} windows of {}\n", folder.string(), text.path.string(), text.split, result->tokens,
               result->windows, seq_len);
  print_result("loss           {:.4f} ± {:.4f} nats per token\nperplexity     {:.3f} ± {:.3f}\nbits per byte  {:.4f}\n", result->loss, result->loss_se,
               result->perplexity, result->perplexity_se, result->bits_per_byte);
  if (std::isfinite(result->accuracy)) print_result("accuracy       {:.2f}% of tokens were the most probable one\n", 100 * result->accuracy);
  if (args.rule.domains > 0) print_result("domains        {:.3f} (mean posterior)\n", fmt::join(measured->posterior, " "));
}

}  // namespace

VerbEntry verb_eval() {
  return {"eval", 30, "Measure a model on text: loss, perplexity, bits per byte", [](CLI::App& verb) {
            auto args = std::make_shared<EvalArguments>();
            verb.add_option("model", args->model, "model folder, or a run (its best checkpoint)")->required()->type_name("MODEL-DIR");
            verb.add_option("--data", args->data, "text file, folder or JSONL; default: the text of the run, else the corpus that comes with the program")
                ->type_name("PATH");
            verb.add_option("--split", args->split, "which part of it; default: validation, or all of a text given with --data")
                ->type_name("validation|all");
            verb.add_option("--seq-len", args->seq_len, "tokens per window; 0 = as in training, else at most 1024")
                ->type_name("N")
                ->check(CLI::NonNegativeNumber.description(""));
            verb.add_option("--max-tokens", args->max_tokens, "about so many tokens, evenly spread; 0 = all")
                ->type_name("N")
                ->check(CLI::NonNegativeNumber.description(""));
            auto* tag = verb.add_option("--tag", args->rule.tag, "number of the domain that all of the text belongs to, for models that route by it; default: tags of the text")
                ->type_name("N")
                ->check(CLI::NonNegativeNumber.description(""));
            verb.add_option("--domains", args->rule.domains, "predict as a mixture of the tags 0 .. N-1, for models that route by domain; 0 = tags of the text")
                ->excludes(tag)
                ->type_name("N")
                ->check(CLI::NonNegativeNumber.description(""));
            verb.add_option("--prior", args->rule.prior, "of --domains: uniform, updating (follows the text) or cached (follows its first 100 blocks)")
                ->type_name("uniform|updating|cached")
                ->check(CLI::IsMember({"uniform", "updating", "cached"}).description(""));
            verb.add_option("--contrast", args->rule.contrast.beta, "self-contrast: how much less of what passed-over experts say (0.5); 0 = off")->type_name("BETA");
            verb.add_option("--contrast-alpha", args->rule.contrast.alpha, "only tokens with this share of the largest probability")->type_name("P");
            verb.add_option("--contrast-ranks", args->rule.contrast.ranks, "experts of the second pass, 1 = the best: 2")->delimiter(',')->type_name("RANKS");
            verb.add_option("--set", args->rule.set, "change a rule of the model for this measurement, such as moe.gate.k=1; may be given again")
                ->type_name("KEY=VALUE")
                ->allow_extra_args(false);
            add_weights_option(verb, args->weights);
            add_device_option(verb, args->device);
            verb.add_option("--dtype", args->dtype, "arithmetic of matrix products")->type_name("float32|bfloat16");
            add_threads_option(verb);
            verb.add_flag("--json", args->json, "machine-readable output");
            verb.footer("Examples:\n  switchyard eval runs/demo\n  switchyard eval runs/demo --set moe.gate.k=4 --json");
            verb.callback([args] { run_eval(*args); });
          }};
}

}  // namespace switchyard::cli
