// switchyard explain: what a published system or a part is, from its own files
#include "base/nearest_name.h"
#include "cli/boards.h"
#include "cli/explain.h"
#include "cli/output.h"
#include "cli/share_dir.h"
#include "cli/verb.h"
#include "switchyard/error.h"

#include <CLI/CLI.hpp>

#include <algorithm>

namespace switchyard::cli {
namespace {

struct ExplainOptions {
  std::string id, markdown, boards;
  bool json = false;
};

// "gates" or "gate".
std::string kind_of(const std::string& word, const std::vector<System>& systems) {
  for (const auto& system : systems)
    if (word == system.kind || word == system.kind + "s") return system.kind;
  fail(ErrorKind::usage, "--markdown {}: no published system is of this kind (`switchyard list systems`)", word);
}

void explain_page(const std::string& word, const std::string& boards) {
  const auto systems = read_systems(share_dir() / "systems.tsv");
  const std::string kind = kind_of(word, systems);
  std::vector<ExplainedSystem> explained;
  for (const auto& system : systems)
    if (system.kind == kind) explained.push_back(explain_system(system));
  write_result(to_markdown(explained, kind, boards.empty() ? "" : boards_markdown(boards)));
}

void explain_name(const std::string& id, bool json) {
  auto all = nlohmann::ordered_json::array();
  std::string text;
  const auto add = [&](const auto& explained) {
    all.push_back(to_json(explained));
    text += (text.empty() ? "" : "\n") + to_text(explained);
  };
  for (const auto& system : read_systems(share_dir() / "systems.tsv"))
    if (system.id == id) add(explain_system(system));
  for (const auto& part : explain_parts(id)) add(part);
  if (all.empty()) {
    const std::string near = nearest_name(id, explainable_names());
    fail(ErrorKind::usage, "nothing is called '{}'{} (`switchyard list systems`, `list gates`, ...)", id, near.empty() ? "" : "; did you mean '" + near + "'?");
  }
  json ? print_json(all) : write_result(text);
}

void run_explain(const ExplainOptions& opt) {
  if (opt.id.empty() == opt.markdown.empty()) fail(ErrorKind::usage, "expected the id of a system or the name of a part, or --markdown with a kind of systems");
  opt.id.empty() ? explain_page(opt.markdown, opt.boards) : explain_name(opt.id, opt.json);
}

}  // namespace

VerbEntry verb_explain() {
  return {"explain", 75, "Say what a published system or a part is: formula, source, recipe, files, cost, limits", [](CLI::App& verb) {
            auto opt = std::make_shared<ExplainOptions>();
            verb.add_option("id", opt->id, "id of a system (`switchyard list systems`), or name of a gate, block, loss, ...")->type_name("ID");
            verb.add_option("--markdown", opt->markdown, "instead: all systems of this kind as a page")->type_name("KIND");
            verb.add_option("--boards", opt->boards, "of --markdown: a folder of compare.json files, shown as tables in front of the systems")->type_name("DIR");
            verb.add_flag("--json", opt->json, "machine-readable output");
            verb.footer("Examples:\n  switchyard explain switch\n  switchyard explain group_limited --json");
            verb.callback([opt] { run_explain(*opt); });
          }};
}

}  // namespace switchyard::cli
