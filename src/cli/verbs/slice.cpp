// switchyard slice: a dense model as a model of experts, by splitting the neurons of its networks
#include "cli/evaluation_text.h"
#include "cli/find_model.h"
#include "cli/output.h"
#include "cli/threads.h"
#include "cli/verb.h"
#include "steps/slice_sets.h"
#include "switchyard/checkpoint.h"
#include "switchyard/error.h"

#include <CLI/CLI.hpp>

#include <filesystem>

namespace switchyard::cli {
namespace {

struct SliceArguments {
  std::string model, out, method = "random", data, split;
  SliceOptions slice;
  int64_t max_tokens = 2000;
  bool json = false;
};

void run_slice(const SliceArguments& args) {
  if (std::filesystem::exists(args.out) && !std::filesystem::is_empty(args.out))
    fail(ErrorKind::usage, "{} exists and is not empty; slice writes to a new folder", args.out);
  const auto folder = find_model(args.model);
  const Checkpoint dense = load_checkpoint(folder);
  (void)sliced_spec(dense.model->spec(), args.slice);  // what cannot be done is said before any work
  std::optional<EvaluationText> text;
  if (args.method == "coactivation" || args.method == "gradient") {
    if (!dense.tokenizer) fail(ErrorKind::checkpoint, "{}: no tokenizer.json; method '{}' needs a text", folder.string(), args.method);
    text = open_evaluation_text(folder, args.data, args.split, *dense.tokenizer);
  }
  WindowOptions windows{.max_tokens = args.max_tokens};
  if (text) windows.seq_len = window_length(0, *text, dense.model->spec()), windows.cross_documents = text->cross_documents;
  const auto sets = slice_sets(*dense.model, args.method, args.slice.num_experts, args.slice.seed, text ? &text->stream() : nullptr, windows);
  Checkpoint experts;
  experts.model = slice_networks(*dense.model, args.slice, sets);
  experts.tokenizer = dense.tokenizer;
  save_checkpoint(experts, args.out);
  const auto before = count_parameters(dense.model->spec()), after = count_parameters(experts.model->spec());
  const MoESpec& m = *experts.model->spec().moe;
  if (args.json)
    return print_json({{"out", args.out}, {"method", args.method}, {"experts", m.num_experts}, {"d_expert", m.d_expert}, {"scale", m.routed_scale},
                       {"parameters", after.total}, {"active", after.active}, {"dense_parameters", before.total}});
  print_result("{}: {} experts of width {} in each of {} layers, {} chosen, routed sum times {:g}; {} parameters, {} active (dense: {})\n", args.out, m.num_experts,
               m.d_expert, experts.model->spec().num_layers, args.slice.top_k, m.routed_scale, format_count(static_cast<double>(after.total)),
               format_count(static_cast<double>(after.active)), format_count(static_cast<double>(before.total)));
}

}  // namespace

VerbEntry verb_slice() {
  return {"slice", 93, "Write a dense model as a model of experts: the neurons of its networks, split into sets", [](CLI::App& verb) {
            auto args = std::make_shared<SliceArguments>();
            verb.add_option("model", args->model, "folder or run of a dense model")->required()->type_name("MODEL-DIR");
            verb.add_option("out", args->out, "folder to be made")->required()->type_name("DIR");
            verb.add_option("--num-experts", args->slice.num_experts, "sets per layer; divides d_ff")->type_name("N")->check(CLI::PositiveNumber.description(""));
            verb.add_option("--top-k", args->slice.top_k, "experts per token")->type_name("K")->check(CLI::PositiveNumber.description(""));
            verb.add_option("--method", args->method, "random, or neurons that are alike: in their weights, in what they fire on, in what the loss needs them for")
                ->type_name("random|clusters|coactivation|gradient")
                ->check(CLI::IsMember({"random", "clusters", "coactivation", "gradient"}).description(""));
            verb.add_option("--scale", args->slice.scale, "factor of the routed sum; 0 = num-experts / top-k")->type_name("X")->check(CLI::NonNegativeNumber.description(""));
            verb.add_option("--seed", args->slice.seed, "of the split and of the new gates")->type_name("N");
            verb.add_option("--data", args->data, "text of coactivation and gradient; default: that of the run")->type_name("PATH");
            verb.add_option("--split", args->split, "which part of it; default: validation, or all of a text given with --data")->type_name("validation|all");
            verb.add_option("--max-tokens", args->max_tokens, "about so many tokens of it")->type_name("N")->check(CLI::PositiveNumber.description(""));
            add_threads_option(verb);
            verb.add_flag("--json", args->json, "machine-readable output");
            verb.footer("Examples:\n  switchyard slice runs/dense experts --num-experts 8 --top-k 2\n  switchyard slice runs/dense experts --num-experts 16 --top-k 4 --method coactivation");
            verb.callback([args] { run_slice(*args); });
          }};
}

}  // namespace switchyard::cli
