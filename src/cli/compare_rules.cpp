#include "cli/compare_rules.h"

#include "base/config_tree.h"
#include "base/files.h"
#include "cli/evaluation_text.h"
#include "cli/exit_code.h"
#include "cli/find_model.h"
#include "steps/interrupt.h"
#include "switchyard/checkpoint.h"
#include "switchyard/error.h"

#include <fmt/format.h>

#include <set>

namespace switchyard::cli {
namespace {

struct RuleFile {
  std::vector<EvalRule> rule;
  template <class V> void fields(V&& v) { v("rule", rule, "a rule of inference"); }
};

const std::vector<std::pair<report::Measure, double EvalResult::*>>& rule_measures() {
  using F = report::Measure::Form;
  static const std::vector<std::pair<report::Measure, double EvalResult::*>> all = {
      {{F::decimals, "loss", "loss", "Validation loss, nats per token; of a contrast without its cut-off.", 4, true}, &EvalResult::loss},
      {{F::decimals, "bits_per_byte", "bits/byte", "The same per byte of text.", 4, false}, &EvalResult::bits_per_byte},
      {{F::percent, "accuracy", "accuracy", "Share of the tokens that were the most probable one.", 3, true}, &EvalResult::accuracy},
  };
  return all;
}

}  // namespace

std::vector<EvalRule> read_rules(const std::string& file) {
  RuleFile rules;
  read_fields(rules, parse_toml(read_text_file(file), file));
  if (rules.rule.empty()) fail(ErrorKind::config, "{}: no [[rule]]", file);
  std::set<std::string> names;
  for (const EvalRule& rule : rules.rule) {
    if (rule.name.empty() || !names.insert(rule.name).second) fail(ErrorKind::config, "{}: a rule has the name '{}'; each needs one of its own", file, rule.name);
    check_rule(rule);
  }
  return rules.rule;
}

report::MeasureTable compare_rules(const std::vector<EvalRule>& rules, const std::vector<std::string>& models, const std::function<void(const std::string&)>& say) {
  report::MeasureTable table;
  for (const auto& [measure, member] : rule_measures()) table.measures.push_back(measure);
  for (const EvalRule& rule : rules) table.rows.push_back({rule.name, models.size(), std::vector<std::vector<double>>(rule_measures().size())});
  for (const auto& name : models) {
    const auto folder = find_model(name);
    const Checkpoint checkpoint = load_checkpoint(folder);
    if (!checkpoint.tokenizer) fail(ErrorKind::checkpoint, "{}: no tokenizer.json; text cannot become tokens", folder.string());
    const auto text = open_evaluation_text(folder, "", "", *checkpoint.tokenizer);
    const EvalOptions options{.seq_len = window_length(0, text, checkpoint.model->spec()), .cross_documents = text.cross_documents};
    for (size_t r = 0; r < rules.size(); ++r) {
      say(fmt::format("{}: {}", name, rules[r].name));
      const auto measured = evaluate_rule(*checkpoint.model, text.stream(), options, rules[r], interrupt_requested);
      if (!measured) throw Exit{kInterrupted};
      for (size_t m = 0; m < rule_measures().size(); ++m) table.rows[r].values[m].push_back(measured->eval.*rule_measures()[m].second);
    }
  }
  report::drop_unmeasured(table);
  return table;
}

}  // namespace switchyard::cli
