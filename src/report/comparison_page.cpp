// The page and the pictures of a comparison.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/comparison.h"
#include "report/measures.h"
#include "report/page.h"
#include "report/page_assets.h"
#include "report/svg_chart.h"
#include "report/text.h"

namespace switchyard::report {
namespace {

// Colour class of a group; from the ninth on the colours come again, dashed.
std::string css_of(size_t group) {
  return fmt::format("s{} thick{}", group % kNumSeriesColours, group >= kNumSeriesColours ? " dashed" : "");
}

LineChart loss_chart(const Comparison& c, CompareOver over) {
  const auto& curves = over == CompareOver::steps ? c.over_steps : c.over_seconds;
  LineChart chart;
  chart.x_label = over == CompareOver::steps ? "step" : "training time";
  chart.x_unit = over == CompareOver::steps ? Unit::plain : Unit::seconds;
  chart.y_label = "validation loss, nats per token";
  chart.description = std::string("Validation loss of all runs against ") + (over == CompareOver::steps ? "steps" : "time");
  chart.label_ends = true;
  for (size_t g = 0; g < curves.size(); ++g) {
    Series mean;
    for (const SpreadPoint& p : curves[g].spread) mean.push_back({p.x, p.mean});
    if (curves[g].seeds.size() > 1) chart.bands.push_back({css_of(g), curves[g].spread});
    chart.lines.push_back({c.groups[g].name, css_of(g), "", mean, {}, false});
  }
  if (std::isfinite(c.baseline_loss) && c.groups.size() > 1)
    chart.references.push_back({c.baseline_loss, "final loss of " + c.groups[0].name, true});
  return chart;
}

// Range of the finite values; count says how many there are.
struct Spread {
  double mean = NAN, low = NAN, high = NAN;
  size_t count = 0;
};

Spread spread(const std::vector<double>& values) {
  Spread s;
  double sum = 0;
  for (const double v : values) {
    if (!std::isfinite(v)) continue;
    sum += v;
    s.low = std::fmin(s.low, v);
    s.high = std::fmax(s.high, v);
    ++s.count;
  }
  if (s.count > 0) s.mean = sum / static_cast<double>(s.count);
  return s;
}

template <class Show>
std::string spread_text(const Spread& s, size_t seeds, Show show) {
  if (s.count == 0) return kNoValue;
  std::string out = show(s.mean);
  if (s.count > 1) out += fmt::format(" <small>{} to {}</small>", show(s.low), show(s.high));
  if (s.count < seeds) out += fmt::format(" <small>({} of {} seeds)</small>", s.count, seeds);
  return out;
}

double parameters(const RunGroup& group, double RunInfo::*field) { return group.seeds[0].info ? (*group.seeds[0].info).*field : NAN; }

std::string figures_table(const Comparison& c) {
  std::vector<std::vector<std::string>> rows;
  for (size_t g = 0; g < c.groups.size(); ++g) {
    const size_t seeds = c.groups[g].seeds.size();
    const auto& steps = c.over_steps[g];
    std::vector<double> seconds;
    for (const Series& s : c.over_seconds[g].seeds) seconds.push_back(s.empty() ? NAN : s.back().x);
    rows.push_back({fmt::format("<span class=\"chip\" style=\"--c:var(--s{})\"></span> {}", g % kNumSeriesColours, escape(c.groups[g].name)),
                    std::to_string(seeds), short_number(parameters(c.groups[g], &RunInfo::params_total)),
                    short_number(parameters(c.groups[g], &RunInfo::params_active)), short_number(parameters(c.groups[g], &RunInfo::flops_per_token)),
                    spread_text(spread(steps.final_loss), seeds, [](double v) { return fixed(v, 3); }),
                    spread_text(spread(seconds), seeds, [](double v) { return duration(v); })});
  }
  return table({"run", "#seeds", "#parameters", "#active", "#FLOPs per token", "#final validation loss", "#training time"}, rows);
}

// Where one group arrives and how much sooner than the baseline ends; says when some or all seeds do not arrive.
template <class Show>
std::string reach_text(const GroupCurve& curve, const GroupCurve& baseline, Show show) {
  const Spread mine = spread(curve.reach), base = spread(baseline.reach);
  const size_t seeds = curve.reach.size();
  if (mine.count == 0) return "not reached";
  std::string out = spread_text(mine, seeds, show);
  if (base.count == baseline.reach.size() && mine.count == seeds && mine.mean > 0)
    out += fmt::format("<small>{}× sooner</small>", fixed(base.mean / mine.mean, 2));
  return out;
}

std::string reach_table(const Comparison& c) {
  if (!std::isfinite(c.baseline_loss) || c.groups.size() < 2) return "";
  std::vector<double> steps, seconds;
  GroupCurve base_steps, base_seconds;  // the baseline arrives when it ends
  for (const Series& s : c.over_steps[0].seeds) base_steps.reach.push_back(s.empty() ? NAN : s.back().x);
  for (const Series& s : c.over_seconds[0].seeds) base_seconds.reach.push_back(s.empty() ? NAN : s.back().x);
  std::vector<std::vector<std::string>> rows;
  for (size_t g = 1; g < c.groups.size(); ++g)
    rows.push_back({fmt::format("<span class=\"chip\" style=\"--c:var(--s{})\"></span> {}", g % kNumSeriesColours, escape(c.groups[g].name)),
                    reach_text(c.over_steps[g], base_steps, [](double v) { return fixed(v, 0); }),
                    reach_text(c.over_seconds[g], base_seconds, [](double v) { return duration(v); })});
  const std::string about = fmt::format("Where each run comes down to {}, the mean loss at which {} ends; against the length of that run.", fixed(c.baseline_loss, 3),
                                        c.groups[0].name);
  return card("Reaching the final loss of " + c.groups[0].name, about, table({"run", "#step", "#time"}, rows));
}

// A wide picture and a narrow one of the same chart; the page shows the one that fits.
std::string both_widths(const LineChart& chart) {
  LineChart wide = chart, narrow = chart;
  wide.width = 880;
  wide.height = 380;
  narrow.width = 344;
  narrow.height = 280;
  return "<div class=\"wide\">" + draw(wide) + "</div><div class=\"narrow\">" + draw(narrow) + "</div>";
}

}  // namespace

std::string render_comparison(const Comparison& c, const std::string& title, const std::string& about, const MeasureTable* measures) {
  std::string body = fmt::format("<header>\n<p class=\"kicker\">Switchyard comparison</p>\n<h1>{}</h1>\n{}</header>\n<main>\n", escape(title),
                                 about.empty() ? "" : "<p class=\"sub\">" + escape(about) + "</p>\n");
  const bool any = std::any_of(c.over_steps.begin(), c.over_steps.end(), [](const GroupCurve& g) { return !g.spread.empty(); });
  Section figures{"figures", "Figures", "", card("", "", figures_table(c)) + reach_table(c)};
  Section steps{"steps", "Loss against steps", "Lines: mean over the seeds of a name. Bands: least to greatest.", ""};
  steps.body = any ? card("", "", both_widths(loss_chart(c, CompareOver::steps))) : missing("No eval record in any of these runs.");
  Section time{"time", "Loss against time", "The same against the time spent in training steps.", ""};
  time.body = any ? card("", "", both_widths(loss_chart(c, CompareOver::seconds))) : missing("No eval record in any of these runs.");
  body += section_html(figures) + section_html(steps) + section_html(time);
  if (measures) body += section_html({"measures", "Routing, quality and cost", "", measures_html(*measures)});
  std::vector<std::vector<std::string>> rows;
  for (const RunGroup& group : c.groups)
    for (const RunFiles& run : group.seeds)
      rows.push_back({escape(group.name), escape(run.info ? run.info->seed : ""), escape(run.dir), "<code>" + escape(run.info ? run.info->command : "") + "</code>"});
  body += section_html({"runs", "Runs", "", card("", "", table({"name", "seed", "folder", "command"}, rows))});
  return html_document(title, "", body + "</main>\n<footer>Written by Switchyard. This page needs no network.</footer>\n");
}

std::string comparison_svg(const Comparison& c, CompareOver over, const std::string& title) {
  LineChart chart = loss_chart(c, over);
  chart.width = 760;
  chart.height = 420;
  chart.title = title;
  size_t seeds = 0;
  for (const RunGroup& group : c.groups) seeds = std::max(seeds, group.seeds.size());
  if (seeds > 1) chart.subtitle = fmt::format("mean of {} seeds, bands from least to greatest", seeds);
  return draw_standalone(chart);
}

}  // namespace switchyard::report
