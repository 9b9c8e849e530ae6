// switchyard convert: a stored model in another form
#include "cli/find_model.h"
#include "cli/output.h"
#include "cli/size_text.h"
#include "cli/terminal.h"
#include "cli/verb.h"
#include "io/safetensors.h"
#include "models/convert.h"
#include "switchyard/error.h"

#include <CLI/CLI.hpp>
#include <fmt/ranges.h>

namespace switchyard::cli {
namespace {

struct ConvertArguments {
  std::string in, out, max_shard_size = "5GB", quantize;
  ConvertOptions options;
  bool dry_run = false, json = false;
};

std::optional<io::GgmlType> parse_format(const std::string& name) {
  if (name.empty()) return std::nullopt;
  const io::BlockFormat* format = io::find_block_format(name);
  if (!format || !format->encode) fail(ErrorKind::usage, "--quantize {}: expected one of {}", name, io::encodable_formats());
  return format->type;
}

nlohmann::ordered_json plan_json(const Conversion& plan, const ConvertArguments& args) {
  nlohmann::ordered_json out = {{"out", args.out}, {"written", !args.dry_run}, {"bytes", plan.bytes}, {"files", plan.files}, {"notes", plan.notes},
                                {"tensors", nlohmann::ordered_json::array()}};
  for (const PlannedTensor& t : plan.tensors) out["tensors"].push_back({{"name", t.name}, {"type", t.type}, {"shape", t.shape}, {"bytes", t.bytes}});
  return out;
}

void print_plan(const Conversion& plan) {
  std::vector<std::vector<std::string>> rows;
  for (const PlannedTensor& t : plan.tensors) rows.push_back({t.name, t.type, show_shape(t.shape), format_bytes(static_cast<double>(t.bytes))});
  write_result(format_table({{"tensor"}, {"type"}, {"shape"}, {"size", true}}, rows));
  if (!plan.files.empty()) print_result("\nfiles    {}\n", fmt::join(plan.files, ", "));
  print_result("tensors  {}, {}\n", plan.tensors.size(), format_bytes(static_cast<double>(plan.bytes)));
}

// A note at each tenth of the way, on a terminal and for more than 100 MB.
std::function<void(int64_t, int64_t)> progress_notes() {
  return [last = int64_t{0}](int64_t done, int64_t total) mutable {
    const int64_t tenth = total > 0 ? 10 * done / total : 10;
    if (total > 100'000'000 && tenth > last && stderr_is_terminal()) note("{}0 % of {}", tenth, format_bytes(static_cast<double>(total)));
    last = tenth;
  };
}

void run_convert(ConvertArguments args) {
  args.options.max_shard_bytes = parse_size("--max-shard-size", args.max_shard_size);
  args.options.quantize = parse_format(args.quantize);
  const Conversion plan = plan_conversion(find_model(args.in), args.out, args.options);
  for (const std::string& text : plan.notes) note("note: {}", text);
  if (!args.dry_run) plan.write(progress_notes());
  if (args.json) print_json(plan_json(plan, args));
  else if (args.dry_run) print_plan(plan);
  else print_result("{}\n", args.out);
}

}  // namespace

VerbEntry verb_convert() {
  return {"convert", 91, "Store a model in another form: dtype, shards, family, GGUF", [](CLI::App& verb) {
            auto args = std::make_shared<ConvertArguments>();
            verb.add_option("in", args->in, "model folder, run (its best checkpoint) or .gguf file")->required()->type_name("PATH");
            verb.add_option("out", args->out, "folder to be made, or a file that ends in .gguf")->required()->type_name("PATH");
            verb.add_option("--family", args->options.family, "layout of the new folder; the model's own when not given; llama from llama_moe joins the experts to the dense parent")->type_name("FAMILY");
            verb.add_option("--layout", args->options.layout, "of the tensors of a folder: published, or stacked (all experts of a layer in one); as they are when not given")
                ->type_name("published|stacked");
            verb.add_option("--dtype", args->options.dtype, "of stored floats; auto = as they are")->type_name("auto|float32|bfloat16|float16");
            verb.add_option("--max-shard-size", args->max_shard_size, "largest file of tensors: 500MB, 5GB, 2GiB")->type_name("SIZE");
            verb.add_option("--quantize", args->quantize, "block format of the matrices of a .gguf file: Q8_0, Q6_K, Q4_K, MXFP4")->type_name("TYPE");
            verb.add_flag("--dry-run", args->dry_run, "list what would be written");
            verb.add_flag("--json", args->json, "machine-readable output");
            verb.footer(
                "Examples:\n  switchyard convert runs/demo model.gguf --quantize Q4_K\n  switchyard convert model.gguf folder --dtype bfloat16 --dry-run\n"
                "  switchyard convert mixtral fused --layout stacked");
            verb.callback([args] { run_convert(*args); });
          }};
}

}  // namespace switchyard::cli
