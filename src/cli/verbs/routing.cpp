// switchyard routing: what the routing of a trained model follows
#include "cli/evaluation_text.h"
#include "cli/find_model.h"
#include "cli/output.h"
#include "cli/threads.h"
#include "cli/verb.h"
#include "eval/routing_diagnostics.h"
#include "eval/routing_record.h"
#include "switchyard/checkpoint.h"
#include "switchyard/error.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cmath>

namespace switchyard::cli {
namespace {

struct RoutingArguments {
  std::string model, before, data, split;
  int64_t seq_len = 0, max_tokens = 20000, buckets = 8;
  double capacity = 0;
  bool json = false;
};

using Json = nlohmann::ordered_json;
using Records = std::map<int64_t, RoutingRecord>;

Json measures_of(const RoutingRecord& record, const RecordOptions& options, int64_t buckets) {
  const auto of = [&](const std::vector<int32_t>& labels) {
    const auto s = specialisation(labels, record.expert);
    return Json{{"share", s.share}, {"by_chance", s.by_chance}};
  };
  const int64_t width = (options.seq_len + buckets - 1) / buckets;
  Json curve = Json::array();
  for (const double share : drop_curve(record.position, record.dropped, buckets, width)) curve.push_back(std::isfinite(share) ? Json(share) : Json());
  return {{"token", of(record.token)}, {"position", of(record.position)}, {"domain", of(record.domain)}, {"dropped_by_position", curve}};
}

void print_table(const Json& layers) {
  print_result("share of the expert's entropy that is known from ... (by chance)\nlayer   token id         position         domain           dropped, first and last positions\n");
  for (const Json& layer : layers) {
    const auto cell = [&](const char* label) {
      return fmt::format("{:.3f} ({:.3f})", layer[label]["share"].get<double>(), layer[label]["by_chance"].get<double>());
    };
    const auto percent = [](const Json& share) { return share.is_null() ? std::string("-") : fmt::format("{:.1f}%", 100 * share.get<double>()); };
    const Json& curve = layer["dropped_by_position"];
    print_result("{:<7} {:<16} {:<16} {:<16} {} ... {}", layer["layer"].get<int64_t>(), cell("token"), cell("position"), cell("domain"), percent(curve.front()),
                 percent(curve.back()));
    if (layer.contains("same_majority")) print_result("   ids that kept their expert: {:.1f}%", 100 * layer["same_majority"].get<double>());
    print_result("\n");
  }
}

Records record(const std::filesystem::path& folder, const EvaluationText& text, RecordOptions options) {
  const Checkpoint checkpoint = load_checkpoint(folder);
  options.seq_len = std::min(options.seq_len, checkpoint.model->spec().max_positions);
  return record_routing(*checkpoint.model, text.stream(), options);
}

void run_routing(const RoutingArguments& args) {
  if (args.buckets < 1) fail(ErrorKind::usage, "--buckets {}: expected at least 1", args.buckets);
  const auto folder = find_model(args.model);
  const Checkpoint checkpoint = load_checkpoint(folder);
  if (!checkpoint.tokenizer) fail(ErrorKind::checkpoint, "{}: no tokenizer.json; text cannot become tokens", folder.string());
  const auto text = open_evaluation_text(folder, args.data, args.split, *checkpoint.tokenizer);
  const RecordOptions options{.seq_len = args.seq_len > 0 ? args.seq_len : text.seq_len > 0 ? text.seq_len : 256,
                              .max_tokens = args.max_tokens,
                              .cross_documents = text.cross_documents,
                              .capacity_factor = args.capacity};
  const Records now = record(folder, text, options);
  if (now.empty()) fail(ErrorKind::unsupported, "{}: no layer in which tokens choose experts", folder.string());
  const Records before = args.before.empty() ? Records() : record(find_model(args.before), text, options);
  Json layers = Json::array();
  for (const auto& [layer, one] : now) {
    Json row = {{"layer", layer}, {"choices", one.expert.size()}};
    row.update(measures_of(one, options, args.buckets));
    if (const auto then = before.find(layer); then != before.end())
      row["same_majority"] = same_majority(then->second.token, then->second.expert, one.token, one.expert);
    layers.push_back(std::move(row));
  }
  if (args.json) return print_json({{"model", folder.string()}, {"data", text.path.string()}, {"layers", layers}});
  print_table(layers);
}

}  // namespace

VerbEntry verb_routing() {
  return {"routing", 35, "What the routing of a trained model follows: token, position, domain; who is dropped where", [](CLI::App& verb) {
            auto args = std::make_shared<RoutingArguments>();
            verb.add_option("model", args->model, "model folder, or a run (its best checkpoint)")->required()->type_name("MODEL-DIR");
            verb.add_option("--before", args->before, "an earlier checkpoint: which token ids have kept their expert since")->type_name("MODEL-DIR");
            verb.add_option("--data", args->data, "text file, folder or JSONL; default: the text of the run")->type_name("PATH");
            verb.add_option("--split", args->split, "which part of it; default: validation, or all of a text given with --data")->type_name("validation|all");
            verb.add_option("--seq-len", args->seq_len, "tokens per window; 0 = as in training")->type_name("N")->check(CLI::NonNegativeNumber.description(""));
            verb.add_option("--max-tokens", args->max_tokens, "about so many tokens, evenly spread")->type_name("N")->check(CLI::PositiveNumber.description(""));
            verb.add_option("--capacity", args->capacity, "drop as with this capacity factor; 0 = as in evaluation")->type_name("FACTOR")->check(CLI::NonNegativeNumber.description(""));
            verb.add_option("--buckets", args->buckets, "parts of the sequence in the curve of drops")->type_name("N");
            add_threads_option(verb);
            verb.add_flag("--json", args->json, "machine-readable output");
            verb.footer("Examples:\n  switchyard routing runs/demo\n  switchyard routing runs/demo --capacity 1.0 --before runs/demo/checkpoints/last --json");
            verb.callback([args] { run_routing(*args); });
          }};
}

}  // namespace switchyard::cli
