// switchyard neurons: which inner neurons of the feed-forward networks are active, and what they tell apart
#include "cli/evaluation_text.h"
#include "cli/find_model.h"
#include "cli/output.h"
#include "cli/threads.h"
#include "cli/verb.h"
#include "eval/neuron_activity.h"
#include "eval/neuron_predictivity.h"
#include "eval/retrieval_usage.h"
#include "switchyard/checkpoint.h"
#include "switchyard/error.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cmath>

namespace switchyard::cli {
namespace {

struct NeuronsArguments {
  std::string model, data, split;
  int64_t seq_len = 0, max_tokens = 20000;
  double epsilon = 0;
  bool functions = false, json = false;
};

using Json = nlohmann::ordered_json;

Json number(double value) { return std::isfinite(value) ? Json(value) : Json(); }

Json row_of(const std::string& name, const BankActivity& bank) {
  const auto by_expert = bank.expert_ratios();
  Json ratios = Json::array();
  for (int64_t e = 0; e < by_expert.size(0); ++e) ratios.push_back(number(by_expert[e].item<double>()));
  const int64_t never = (bank.active == 0).sum().item<int64_t>();
  return {{"network", name}, {"experts", bank.active.size(0)}, {"neurons", bank.active.numel()}, {"rows", bank.rows.sum().item<int64_t>()},
          {"active", number(bank.ratio())}, {"never", never}, {"active_by_expert", ratios}};
}

Json functions_of(const BankActivity& bank, const std::vector<int32_t>& domains, const std::vector<std::string>& names) {
  const auto values = bank.values.contiguous();
  const auto labels = static_cast<int64_t>(names.size());
  const auto pred = predictivity({values.data_ptr<float>(), static_cast<size_t>(values.numel())}, domains, values.size(1), labels);
  Json out = Json::array();
  for (const ExpertFunction& f : expert_functions(pred, bank.active.size(0), labels))
    out.push_back({{"domain", names[static_cast<size_t>(f.label)]}, {"predictivity", f.pred}, {"by_chance", f.by_chance}, {"functional", f.functional()}});
  return out;
}

std::vector<std::string> domain_names(const data::TokenFile& tokens) {
  std::vector<std::string> out;
  for (const int64_t name : tokens.domains()) out.push_back(tokens.names()[static_cast<size_t>(name)]);
  return out;
}

void print_table(const Json& networks, double epsilon) {
  const auto percent = [](const Json& share) { return share.is_null() ? std::string("-") : fmt::format("{:.1f}%", 100 * share.get<double>()); };
  std::vector<std::vector<std::string>> rows;
  bool functions = false;
  for (const Json& row : networks) {
    Json low, high;  // over the experts
    for (const Json& share : row["active_by_expert"]) {
      if (share.is_null()) continue;
      if (low.is_null() || share < low) low = share;
      if (high.is_null() || share > high) high = share;
    }
    auto& cells = rows.emplace_back(std::vector<std::string>{row["network"], row["experts"].dump(), row["neurons"].dump(), row["rows"].dump(), percent(row["active"]),
                                                             percent(low) + " ... " + percent(high), row["never"].dump()});
    if (!row.contains("functions")) continue;
    functions = true;
    cells.push_back(std::to_string(std::count_if(row["functions"].begin(), row["functions"].end(), [](const Json& f) { return f["functional"].get<bool>(); })));
  }
  std::vector<Column> columns = {{"network"}, {"experts", true}, {"neurons", true}, {"rows", true}, {"active", true}, {"by expert", true}, {"never active", true}};
  if (functions) columns.push_back({"functional experts", true});
  print_result("active: |h| > {}\n", epsilon);
  write_result(format_table(columns, rows));
}

void print_retrieval(const Json& tables) {
  std::vector<std::vector<std::string>> rows;
  for (const Json& t : tables)
    rows.push_back({t["network"], t["experts"].dump(), t["reads"].dump(), fmt::format("{:.1f}%", 100 * t["used"].get<double>()),
                    t["unevenness"].is_null() ? "-" : fmt::format("{:.3f}", t["unevenness"].get<double>())});
  write_result(format_table({{"table of neurons"}, {"experts", true}, {"reads", true}, {"used", true}, {"unevenness (nats)", true}}, rows));
}

void run_neurons(const NeuronsArguments& args) {
  if (!(args.epsilon >= 0)) fail(ErrorKind::usage, "--epsilon {}: expected 0 or more", args.epsilon);
  const auto folder = find_model(args.model);
  const Checkpoint checkpoint = load_checkpoint(folder);
  if (!checkpoint.tokenizer) fail(ErrorKind::checkpoint, "{}: no tokenizer.json; text cannot become tokens", folder.string());
  const auto text = open_evaluation_text(folder, args.data, args.split, *checkpoint.tokenizer);
  const auto domains = domain_names(*text.tokens);
  if (args.functions && domains.size() < 2)
    fail(ErrorKind::usage, "--functions asks which domains neurons tell apart, but {} has only one; expected a folder with a folder per domain", text.path.string());
  const WindowOptions windows{.seq_len = window_length(args.seq_len, text, checkpoint.model->spec()),
                              .max_tokens = args.max_tokens,
                              .cross_documents = text.cross_documents};
  const auto activity = neuron_activity(*checkpoint.model, text.stream(), {.windows = windows, .epsilon = args.epsilon, .keep_values = args.functions});
  const auto retrieval = retrieval_usage(*checkpoint.model, text.stream(), windows);
  if (activity.banks.empty() && retrieval.empty()) fail(ErrorKind::unsupported, "{}: no feed-forward network of the kinds that have inner neurons", folder.string());
  Json networks = Json::array();
  for (const auto& [name, bank] : activity.banks) {
    networks.push_back(row_of(name, bank));
    if (args.functions) networks.back()["functions"] = functions_of(bank, activity.domains, domains);
  }
  Json tables = Json::array();
  for (const auto& [name, usage] : retrieval)
    tables.push_back({{"network", name}, {"experts", usage.reads.size(0)}, {"reads", usage.reads.sum().item<int64_t>()}, {"used", usage.used()}, {"unevenness", number(usage.unevenness())}});
  if (args.json)
    return print_json({{"model", folder.string()}, {"data", text.path.string()}, {"epsilon", args.epsilon}, {"networks", networks}, {"tables", tables}});
  if (!networks.empty()) print_table(networks, args.epsilon);
  if (!tables.empty()) print_retrieval(tables);
}

}  // namespace

VerbEntry verb_neurons() {
  return {"neurons", 36, "Which inner neurons of the feed-forward networks are active, and which domains they tell apart", [](CLI::App& verb) {
            auto args = std::make_shared<NeuronsArguments>();
            verb.add_option("model", args->model, "model folder, or a run (its best checkpoint)")->required()->type_name("MODEL-DIR");
            verb.add_option("--epsilon", args->epsilon, "active means beyond this; 0 is for ReLU, others need one")->type_name("X");
            verb.add_flag("--functions", args->functions, "experts whose neurons detect a domain better than neurons drawn at random; keeps all activations in memory");
            verb.add_option("--data", args->data, "text file, folder or JSONL; default: the text of the run")->type_name("PATH");
            verb.add_option("--split", args->split, "which part of it; default: validation, or all of a text given with --data")->type_name("validation|all");
            verb.add_option("--seq-len", args->seq_len, "tokens per window; 0 = as in training")->type_name("N")->check(CLI::NonNegativeNumber.description(""));
            verb.add_option("--max-tokens", args->max_tokens, "about so many tokens, evenly spread")->type_name("N")->check(CLI::PositiveNumber.description(""));
            add_threads_option(verb);
            verb.add_flag("--json", args->json, "machine-readable output");
            verb.footer("Examples:\n  switchyard neurons runs/sparsity-diagnostics\n  switchyard neurons runs/demix --epsilon 0.01 --functions --max-tokens 4000 --json");
            verb.callback([args] { run_neurons(*args); });
          }};
}

}  // namespace switchyard::cli
