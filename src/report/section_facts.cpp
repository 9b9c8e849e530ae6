// Speed, the model's table, the sample, and how to run it again.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/sections.h"
#include "report/svg_chart.h"
#include "report/text.h"

namespace switchyard::report {
namespace {

constexpr double kWidth = 240, kHeight = 190;  // four charts in a row

std::string train_card(const RunFiles& run, const char* title, const char* about, LineChart chart, double TrainRecord::*field, const char* css, const char* otherwise) {
  const Series raw = train_series(run, field);
  if (raw.empty()) return card(title, "", missing(otherwise));
  chart.width = kWidth;
  chart.height = kHeight;
  chart.description = std::string(title) + " against steps";
  chart.lines = {{"", std::string(css) + " faint", "", thin(raw, 500), {}, false},
                 {title, std::string(css) + " thick", "", thin(smooth(raw, raw.size() / 50), 300), {}, false}};
  return card(title, about, draw(chart));
}

std::string lr_card(const RunFiles& run) {
  const Series raw = train_series(run, &TrainRecord::lr);
  if (raw.empty()) return card("Learning rate", "", missing("No lr in metrics.jsonl."));
  LineChart chart;
  chart.width = kWidth;
  chart.height = kHeight;
  chart.y_label = "learning rate";
  chart.y_from_zero = true;
  chart.description = "Learning rate against steps";
  chart.lines = {{"learning rate", "s5 thick", "", thin(raw, 400), {}, false}};
  return card("Learning rate", "", draw(chart));
}

std::string time_card(const RunFiles& run) {
  LineChart chart;
  chart.width = kWidth;
  chart.height = kHeight;
  Series validation;
  std::vector<double> errors;
  for (const EvalRecord& e : run.evals)
    if (std::isfinite(e.loss) && std::isfinite(e.seconds)) {
      validation.push_back({e.seconds, e.loss});
      errors.push_back(e.loss_se);
    }
  if (validation.empty()) return card("Validation over time", "", missing("No eval record with its seconds in metrics.jsonl."));
  chart.x_unit = Unit::seconds;
  chart.x_label = "training time";
  chart.y_label = "nats per token";
  chart.description = "Validation loss against time";
  chart.lines = {{"validation", "s1 thick", "", validation, errors, true}};
  return card("Validation over time", "", draw(chart));
}

std::string share_meter(double part, double total) {
  const double share = std::isfinite(part / total) ? std::clamp(part / total, 0.0, 1.0) : 0.0;
  return fmt::format("<span class=\"meter\"><i style=\"width:{:.1f}%\"></i></span>", 100 * share);
}

std::string whole_number(double value) {
  if (!std::isfinite(value)) return kNoValue;
  std::string digits = fmt::format("{:.0f}", value);
  for (int64_t at = static_cast<int64_t>(digits.size()) - 3; at > (digits[0] == '-' ? 1 : 0); at -= 3) digits.insert(static_cast<size_t>(at), " ");
  return digits;
}

std::string model_table(const RunInfo& info) {
  if (info.table.empty()) return missing("No model.table in run.json.");
  double params = 0, active = 0;
  for (const ModelPart& p : info.table) {
    params += std::isfinite(p.params) ? p.params : 0;
    active += std::isfinite(p.active) ? p.active : 0;
  }
  const double total = std::isfinite(info.params_total) ? info.params_total : params;
  const double total_active = std::isfinite(info.params_active) ? info.params_active : active;
  std::vector<std::vector<std::string>> rows;
  for (const ModelPart& p : info.table) rows.push_back({escape(p.part), whole_number(p.params), whole_number(p.active), share_meter(p.params, total)});
  rows.push_back({"total", whole_number(total), whole_number(total_active), ""});
  return table({"part", "#parameters", "#active per token", "share of parameters"}, rows, true);
}

// Whole numbers of five digits and more with their thousands set apart.
Facts grouped(Facts facts) {
  for (auto& [name, value] : facts)
    if (value.size() >= 5 && value.size() <= 15 && value.find_first_not_of("0123456789") == std::string::npos) value = whole_number(std::stod(value));
  return facts;
}

Facts run_facts(const RunInfo& info) {
  Facts facts;
  const auto add = [&](const char* name, const std::string& value) {
    if (!value.empty()) facts.emplace_back(name, value);
  };
  add("recipe", info.recipe);
  add("seed", info.seed);
  add("threads", info.threads > 0 ? std::to_string(info.threads) : "");
  add("machine", info.machine);
  add("started", moment(info.started));
  return facts;
}

}  // namespace

Section speed_section(const RunFiles& run) {
  Section s{"speed", "Speed and course of training", "", ""};
  if (run.train.empty() && run.evals.empty()) {
    s.body = missing("No train record in metrics.jsonl: throughput, learning rate and gradient norm are not known.");
    return s;
  }
  LineChart speed, norm;
  speed.y_label = "tokens/s";
  speed.y_from_zero = true;
  norm.y_label = "before clipping";
  norm.y_from_zero = true;
  s.body = card_grid({train_card(run, "Throughput", "", speed, &TrainRecord::tokens_per_s, "s2", "No tokens_per_s in metrics.jsonl."), time_card(run), lr_card(run),
                      train_card(run, "Gradient norm", "", norm, &TrainRecord::grad_norm, "s4", "No grad_norm in metrics.jsonl.")});
  return s;
}

Section model_section(const RunFiles& run) {
  Section s{"model", "Model and data", "", ""};
  if (!run.info) {
    s.body = missing("No run.json: the model's table and the dataset are not known.");
    return s;
  }
  s.body = "<div class=\"pair\">\n" + card("Parameters", "", model_table(*run.info)) +
           card("Dataset", "", run.info->dataset.empty() ? missing("No dataset in run.json.") : fact_table(grouped(run.info->dataset))) + "</div>\n";
  return s;
}

Section sample_section(const RunFiles& run) {
  Section s{"sample", "Sample", "", ""};
  s.body = run.sample ? card("", "Text generated by the trained model.", "<pre class=\"sample\">" + escape(*run.sample) + "</pre>")
                      : missing("No sample.txt: the run generated no text.");
  return s;
}

Section reproduce_section(const RunFiles& run) {
  Section s{"reproduce", "Run it again", "", ""};
  if (!run.info) {
    s.body = missing("No run.json: command and recipe are not known.");
    return s;
  }
  std::string body = run.info->command.empty() ? missing("No command in run.json.") : "<pre class=\"command\">" + escape(run.info->command) + "</pre>";
  body += fact_table(run_facts(*run.info));
  s.body = card("", "", body);
  if (run.recipe) s.body += card("", "", "<details><summary>The recipe in full</summary><pre>" + escape(*run.recipe) + "</pre></details>");
  if (!run.info->final.empty()) s.body += card("Figures at the end of the run", "", fact_table(run.info->final));
  return s;
}

}  // namespace switchyard::report
