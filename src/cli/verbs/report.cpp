// switchyard report: the pages of training runs
#include "cli/output.h"
#include "cli/verb.h"
#include "report/report.h"

#include <CLI/CLI.hpp>

namespace switchyard::cli {
namespace {

struct ReportArguments {
  std::string run, out;
};

}  // namespace

VerbEntry verb_report() {
  return {"report", 40, "Write the report of a training run: one HTML file that needs nothing else", [](CLI::App& verb) {
            auto args = std::make_shared<ReportArguments>();
            verb.add_option("run", args->run, "folder of a training run")->required()->type_name("RUN");
            verb.add_option("--out", args->out, "HTML file to write; default: RUN/report.html")->type_name("FILE");
            verb.footer("Examples:\n  switchyard report runs/demo\n  switchyard report runs/demo --out demo.html");
            verb.callback([args] {
              const std::string out = args->out.empty() ? (std::filesystem::path(args->run) / "report.html").string() : args->out;
              report::write_report(args->run, out);
              print_result("{}\n", out);
            });
          }};
}

}  // namespace switchyard::cli
