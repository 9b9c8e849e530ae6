#include "report/report.h"

#include <algorithm>

#include "base/files.h"
#include "report/page.h"
#include "report/palette.h"
#include "report/sections.h"
#include "report/text.h"

namespace switchyard::report {
namespace {

size_t most_experts(const RunFiles& run) {
  size_t most = 0;
  for (size_t layer = 0; layer < run.num_moe_layers(); ++layer) {
    const LoadHistory history = load_history(run, layer);
    if (!history.share.empty()) most = std::max(most, history.share[0].size());
  }
  if (run.trace)
    for (const TraceLayer& layer : run.trace->layers) most = std::max(most, static_cast<size_t>(std::max<int64_t>(layer.num_experts, 0)));
  return most;
}

}  // namespace

std::string render_report(const RunFiles& run) {
  const bool dense = !run.train.empty() && run.num_moe_layers() == 0;  // then one section says so, not three
  std::vector<Section> sections = {loss_section(run), load_section(run)};
  if (!dense) {
    sections.push_back(balance_section(run));
    sections.push_back(routing_section(run));
  }
  for (const auto section : {speed_section, model_section, sample_section, reproduce_section}) sections.push_back(section(run));
  std::string body = header_html(run) + navigation(sections) + "<main>\n";
  for (const Section& s : sections) body += section_html(s);
  body += "</main>\n<footer>Written by Switchyard from the files of " + escape(run.dir) + ". This page needs no network.</footer>\n";
  return html_document(run.name() + ": training report", ":root{" + expert_colour_css(most_experts(run)) + "}", body);
}

void write_report(const std::string& run_dir, const std::string& out_path) {
  write_file_atomic(out_path, render_report(read_run(run_dir)));
}

}  // namespace switchyard::report
