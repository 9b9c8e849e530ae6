// switchyard doctor: what this machine and this build can do
#include "cli/doctor.h"
#include "cli/output.h"
#include "cli/verb.h"

#include <CLI/CLI.hpp>

namespace switchyard::cli {
namespace {

void print_findings(const std::vector<Finding>& findings) {
  std::string section;
  size_t width = 0;
  for (const auto& f : findings) width = std::max(width, f.name.size());
  int warnings = 0;
  for (const auto& f : findings) {
    if (f.section != section) print_result("{}{}\n", section.empty() ? "" : "\n", section = f.section);
    const char* mark = f.health == Health::ok ? " " : f.health == Health::warning ? "!" : "-";
    print_result("{} {:<{}}  {}{}{}\n", mark, f.name, width, f.value, f.advice.empty() ? "" : "   ", f.advice);
    warnings += f.health == Health::warning;
  }
  print_result("\n{}\n", warnings == 0 ? "No warnings." : fmt::format("{} warning{}: the lines with '!'.", warnings, warnings == 1 ? "" : "s"));
}

nlohmann::ordered_json to_json(const std::vector<Finding>& findings) {
  auto out = nlohmann::ordered_json::array();
  for (const auto& f : findings)
    out.push_back({{"section", f.section}, {"name", f.name}, {"value", f.value}, {"health", name_of(f.health)}, {"advice", f.advice}});
  return out;
}

}  // namespace

VerbEntry verb_doctor() {
  return {"doctor", 120, "Show what this machine and this build can do, and why not", [](CLI::App& verb) {
            auto json = std::make_shared<bool>(false);
            verb.add_flag("--json", *json, "machine-readable output");
            verb.footer("Examples:\n  switchyard doctor\n  switchyard doctor --json | jq '.[] | select(.health == \"warning\")'");
            verb.callback([json] { *json ? print_json(to_json(examine_machine())) : print_findings(examine_machine()); });
          }};
}

}  // namespace switchyard::cli
