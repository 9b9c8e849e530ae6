// switchyard report: the page of a training run, or of several over each other
#include "cli/output.h"
#include "cli/verb.h"
#include "report/comparison.h"
#include "report/report.h"
#include "switchyard/error.h"

#include <CLI/CLI.hpp>

namespace switchyard::cli {
namespace {

struct ReportArguments {
  std::vector<std::string> runs;
  std::string out, svg;
};

void compare_runs(const ReportArguments& args) {
  const std::string out = args.out.empty() ? "comparison.html" : args.out;
  report::write_comparison(args.runs, out);
  print_result("{}\n", out);
  if (args.svg.empty()) return;
  report::write_comparison_svg(args.runs, report::CompareOver::steps, "Validation loss over steps", args.svg + "-steps.svg");
  report::write_comparison_svg(args.runs, report::CompareOver::seconds, "Validation loss over training time", args.svg + "-seconds.svg");
  print_result("{}-steps.svg\n{}-seconds.svg\n", args.svg, args.svg);
}

void report_run(const ReportArguments& args) {
  if (!args.svg.empty()) fail(ErrorKind::usage, "--svg compares runs: name at least two of them");
  const std::string out = args.out.empty() ? (std::filesystem::path(args.runs[0]) / "report.html").string() : args.out;
  report::write_report(args.runs[0], out);
  print_result("{}\n", out);
}

}  // namespace

VerbEntry verb_report() {
  return {"report", 40, "Write the report of a training run, or compare several: one HTML file that needs nothing else", [](CLI::App& verb) {
            auto args = std::make_shared<ReportArguments>();
            verb.add_option("runs", args->runs, "folder of a training run; several are drawn over each other, the first name is the baseline")->required()->type_name("RUN ...");
            verb.add_option("--out", args->out, "HTML file to write; default: RUN/report.html, of several runs comparison.html")->type_name("FILE");
            verb.add_option("--svg", args->svg, "of several runs: also write PREFIX-steps.svg and PREFIX-seconds.svg")->type_name("PREFIX");
            verb.footer("Examples:\n  switchyard report runs/demo\n  switchyard report runs/dense-1 runs/dense-2 runs/moe-1 runs/moe-2 --out comparison.html");
            verb.callback([args] { args->runs.size() > 1 ? compare_runs(*args) : report_run(*args); });
          }};
}

}  // namespace switchyard::cli
