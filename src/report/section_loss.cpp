#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/sections.h"
#include "report/svg_chart.h"
#include "report/text.h"

namespace switchyard::report {
namespace {

constexpr size_t kRawPoints = 900, kSmoothPoints = 500;

struct Losses {
  Series raw, smoothed, validation;
  std::vector<double> errors;
  size_t window = 1;
};

Losses collect(const RunFiles& run) {
  Losses l;
  l.raw = train_series(run, &TrainRecord::loss);
  const size_t half = std::max<size_t>(1, l.raw.size() / 50);
  l.window = 2 * half + 1;
  l.smoothed = smooth(l.raw, half);
  for (const EvalRecord& e : run.evals) {
    if (!std::isfinite(e.loss)) continue;
    l.validation.push_back({static_cast<double>(e.step), e.loss});
    l.errors.push_back(e.loss_se);
  }
  return l;
}

Losses from_step(const Losses& all, double step) {
  Losses l;
  l.window = all.window;
  const auto keep = [&](const Series& s, Series& out) {
    for (const Point& p : s)
      if (p.x >= step) out.push_back(p);
  };
  keep(all.raw, l.raw);
  keep(all.smoothed, l.smoothed);
  for (size_t i = 0; i < all.validation.size(); ++i)
    if (all.validation[i].x >= step) {
      l.validation.push_back(all.validation[i]);
      l.errors.push_back(all.errors[i]);
    }
  return l;
}

// The last "best" event and every resume and interruption.
std::vector<Reference> event_marks(const RunFiles& run, double from) {
  std::vector<Reference> marks;
  const EventRecord* best = nullptr;
  for (const EventRecord& e : run.events) {
    if (e.what == "best") best = &e;
    if (e.what == "resume") marks.push_back({static_cast<double>(e.step), "resumed", false});
  }
  if (best != nullptr) marks.push_back({static_cast<double>(best->step), "best", false});
  marks.erase(std::remove_if(marks.begin(), marks.end(), [&](const Reference& r) { return r.at < from; }), marks.end());
  return marks;
}

std::string loss_chart(const Losses& l, std::vector<Reference> marks, double width, double height, const std::string& description) {
  LineChart chart;
  chart.width = width;
  chart.height = height;
  chart.description = description;
  chart.y_label = "nats per token";
  chart.lines = {{"", "s0 faint", "", thin(l.raw, kRawPoints), {}, false},
                 {"train, smoothed", "s0 thick", "", thin(l.smoothed, kSmoothPoints), {}, false},
                 {"validation", "s1 thick", "", l.validation, l.errors, true}};
  chart.references = std::move(marks);
  return draw(chart);
}

}  // namespace

Section loss_section(const RunFiles& run) {
  Section s{"loss", "Loss", "", ""};
  const Losses all = collect(run);
  if (all.raw.empty() && all.validation.empty()) {
    s.body = missing("No train or eval record with a loss in metrics.jsonl.");
    return s;
  }
  const double last = std::max(all.raw.empty() ? 0 : all.raw.back().x, all.validation.empty() ? 0 : all.validation.back().x);
  const Losses late = from_step(all, last / 2);
  const auto key = legend({{"var(--s0)", "train, every record", "dash faint"},
                           {"var(--s0)", fmt::format("train, mean of {} records", all.window)},
                           {"var(--s1)", "validation, bars: ± 1 standard error"}});
  const std::string label = "Training and validation loss against steps";
  s.body = key + "<div class=\"split\">\n" +
           card("Whole run", "",
                "<div class=\"wide\">" + loss_chart(all, event_marks(run, 0), 690, 330, label) + "</div><div class=\"narrow\">" +
                    loss_chart(all, event_marks(run, 0), 344, 250, label) + "</div>") +
           card("Second half, closer", "", loss_chart(late, event_marks(run, last / 2), 330, 330, label + ", second half")) + "</div>\n";
  if (all.validation.empty()) s.body += missing("No eval record in metrics.jsonl: validation loss is not known.");
  return s;
}

}  // namespace switchyard::report
