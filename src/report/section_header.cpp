// The top of the page: what was run, its figures, and what to look at.
#include <fmt/format.h>

#include <cmath>

#include "report/sections.h"
#include "report/text.h"

namespace switchyard::report {
namespace {

const EvalRecord* last_eval(const RunFiles& run) {
  for (auto e = run.evals.rbegin(); e != run.evals.rend(); ++e)
    if (std::isfinite(e->loss)) return &*e;
  return nullptr;
}

double final_or(const RunFiles& run, const char* key, double otherwise) {
  const double value = run.info ? run.info->final_number(key) : NAN;
  return std::isfinite(value) ? value : otherwise;
}

double last_seconds(const RunFiles& run) {
  double seconds = NAN;
  for (const TrainRecord& r : run.train) seconds = std::fmax(seconds, r.seconds);
  for (const EvalRecord& r : run.evals) seconds = std::fmax(seconds, r.seconds);
  return seconds;
}

std::vector<Tile> loss_tiles(const RunFiles& run) {
  const EvalRecord* eval = last_eval(run);
  const double loss = final_or(run, "loss", eval != nullptr ? eval->loss : NAN);
  const double se = final_or(run, "loss_se", eval != nullptr ? eval->loss_se : NAN);
  const double perplexity = final_or(run, "perplexity", eval != nullptr && std::isfinite(eval->perplexity) ? eval->perplexity : std::exp(loss));
  const double bits = final_or(run, "bits_per_byte", eval != nullptr ? eval->bits_per_byte : NAN);
  return {{"Validation loss", fixed(loss, 3), "nats", std::isfinite(se) ? "± " + fixed(se, 3) + " standard error" : "per token"},
          {"Bits per byte", fixed(bits, 3), "", "of validation text"},
          {"Perplexity", fixed(perplexity, 2), "", "per token"}};
}

std::vector<Tile> size_tiles(const RunFiles& run) {
  const double total = run.info ? run.info->params_total : NAN, active = run.info ? run.info->params_active : NAN;
  const double flops = run.info ? run.info->flops_per_token : NAN;
  return {{"Parameters", short_number(total), "", "in total"},
          {"Active parameters", short_number(active), "", std::isfinite(active / total) ? percent(active / total) + " per token" : "per token"},
          {"Forward FLOPs", short_number(flops), "", "per token"}};
}

std::vector<Tile> time_tiles(const RunFiles& run) {
  std::vector<double> speeds;
  for (const TrainRecord& r : run.train) speeds.push_back(r.tokens_per_s);
  const double steps = run.train.empty() ? NAN : static_cast<double>(run.train.back().step);
  const double tokens = run.train.empty() ? NAN : run.train.back().tokens;
  return {{"Speed", short_number(final_or(run, "tokens_per_s", median(speeds))), "tokens/s", "in training"},
          {"Training time", duration(final_or(run, "seconds", last_seconds(run))), "",
           std::isnan(steps) ? "" : fmt::format("{} steps{}", short_number(steps), std::isfinite(tokens) ? ", " + short_number(tokens) + " tokens" : "")}};
}

std::string subtitle(const RunFiles& run) {
  std::string out;
  const auto add = [&](const std::string& text) {
    if (!text.empty()) out += (out.empty() ? "" : " · ") + text;
  };
  if (!run.info) return "run.json is missing: recipe, command and model are not known";
  if (run.info->recipe != "recipe.toml") add(run.info->recipe);  // the copy inside of the run names nothing
  if (!run.info->seed.empty()) add("seed " + run.info->seed);
  add(run.info->machine);
  if (run.info->threads > 0 && run.info->machine.find("thread") == std::string::npos)
    add(fmt::format("{} thread{}", run.info->threads, run.info->threads == 1 ? "" : "s"));
  add(moment(run.info->started));
  return out;
}

std::string findings_html(const RunFiles& run) {
  std::string out = "<ul class=\"findings\" aria-label=\"Findings\">";
  for (const Finding& f : findings(run)) {
    const bool good = f.kind == Finding::Kind::good, warn = f.kind == Finding::Kind::warn;
    out += fmt::format("<li class=\"{}\"><span class=\"mark\" aria-hidden=\"true\">{}</span><span>{}</span></li>", good ? "good" : warn ? "warn" : "info",
                       good ? "✓" : warn ? "!" : "•", escape(f.text));
  }
  return out + "</ul>\n";
}

}  // namespace

std::string header_html(const RunFiles& run) {
  std::vector<Tile> tiles = loss_tiles(run);
  for (const auto& more : {size_tiles(run), time_tiles(run)}) tiles.insert(tiles.end(), more.begin(), more.end());
  return fmt::format("<header>\n<p class=\"kicker\">Switchyard training report</p>\n<h1>{}</h1>\n<p class=\"sub\">{}</p>\n{}{}</header>\n",
                     escape(run.name()), escape(subtitle(run)), tiles_html(tiles), findings_html(run));
}

}  // namespace switchyard::report
