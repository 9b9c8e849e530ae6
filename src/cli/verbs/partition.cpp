// switchyard partition: experts of which the least important part is the same for all
#include "cli/evaluation_text.h"
#include "cli/find_model.h"
#include "cli/output.h"
#include "cli/threads.h"
#include "cli/verb.h"
#include "steps/partition.h"
#include "switchyard/checkpoint.h"
#include "switchyard/error.h"

#include <CLI/CLI.hpp>

#include <filesystem>

namespace switchyard::cli {
namespace {

struct PartitionArguments {
  std::string model, out, data, split;
  PartitionOptions partition;
  bool json = false;
};

void run_partition(PartitionArguments args) {
  if (std::filesystem::exists(args.out) && !std::filesystem::is_empty(args.out))
    fail(ErrorKind::usage, "{} exists and is not empty; partition writes to a new folder", args.out);
  const auto folder = find_model(args.model);
  const Checkpoint whole = load_checkpoint(folder);
  if (!whole.tokenizer) fail(ErrorKind::checkpoint, "{}: no tokenizer.json; entries are ranked on a text", folder.string());
  const auto text = open_evaluation_text(folder, args.data, args.split, *whole.tokenizer);
  args.partition.windows.seq_len = window_length(0, text, whole.model->spec());
  args.partition.windows.cross_documents = text.cross_documents;
  PartitionReport report;
  Checkpoint part;
  part.model = partitioned(*whole.model, text.stream(), args.partition, &report);
  part.tokenizer = whole.tokenizer;
  save_checkpoint(part, args.out);
  if (args.json)
    return print_json({{"out", args.out}, {"entries", report.entries}, {"dynamic", report.dynamic}, {"stored", report.stored}, {"stored_before", report.stored_before}});
  print_result("{}: {} of {} entries of an expert are its own; {} entries to store, before {}\n", args.out, report.dynamic, report.entries,
               format_count(static_cast<double>(report.stored)), format_count(static_cast<double>(report.stored_before)));
}

}  // namespace

VerbEntry verb_partition() {
  return {"partition", 94, "Write a model of experts whose least important entries are the same for all experts", [](CLI::App& verb) {
            auto args = std::make_shared<PartitionArguments>();
            verb.add_option("model", args->model, "folder or run of a model with feed-forward experts")->required()->type_name("MODEL-DIR");
            verb.add_option("out", args->out, "folder to be made")->required()->type_name("DIR");
            verb.add_option("--keep", args->partition.keep, "share of entries that stay each expert's own")->type_name("SHARE")->check(CLI::Range(0.0, 1.0).description(""));
            verb.add_option("--rounds", args->partition.rounds, "in which it comes down to that")->type_name("N")->check(CLI::PositiveNumber.description(""));
            verb.add_option("--data", args->data, "text that entries are ranked on; default: that of the run")->type_name("PATH");
            verb.add_option("--split", args->split, "which part of it; default: validation, or all of a text given with --data")->type_name("validation|all");
            verb.add_option("--max-tokens", args->partition.windows.max_tokens, "about so many tokens of it in each round")->type_name("N")->check(CLI::PositiveNumber.description(""));
            add_threads_option(verb);
            verb.add_flag("--json", args->json, "machine-readable output");
            verb.footer("Examples:\n  switchyard partition runs/pad-net half --keep 0.5\n  switchyard partition runs/demo small --keep 0.3 --rounds 8 --json");
            verb.callback([args] { run_partition(*args); });
          }};
}

}  // namespace switchyard::cli
