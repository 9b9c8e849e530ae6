// switchyard list: what this build knows by name
#include "base/config_tree.h"
#include "base/nearest_name.h"
#include "cli/catalogue.h"
#include "cli/output.h"
#include "cli/share_dir.h"
#include "cli/systems.h"
#include "cli/verb.h"

#include <CLI/CLI.hpp>
#include <fmt/ranges.h>

namespace switchyard::cli {
namespace {

struct ListOptions {
  std::string noun = "systems";
  bool json = false;
};

void list_systems(bool json) {
  const auto systems = read_systems(share_dir() / "systems.tsv");
  if (!json) {
    std::vector<std::vector<std::string>> rows;
    for (const auto& s : systems) rows.push_back({s.id, s.kind, s.ref, s.recipe, s.name});
    write_result(format_table({{"id"}, {"kind"}, {"ref"}, {"recipe"}, {"name"}}, rows));
    return;
  }
  auto out = nlohmann::ordered_json::array();
  for (const auto& s : systems)
    out.push_back({{"id", s.id}, {"name", s.name}, {"kind", s.kind}, {"ref", s.ref}, {"files", s.files}, {"recipe", s.recipe}, {"tests", s.tests}});
  print_json(out);
}

void list_parts(const std::string& noun, bool json) {
  const auto parts = parts_of(noun);
  if (!json) {
    std::vector<std::vector<std::string>> rows;
    for (const auto& part : parts) {
      std::string options;
      for (const auto& option : part.options) options += (options.empty() ? "" : " ") + option.key + "=" + to_json(option.default_value).dump();
      rows.push_back({part.name, part.kind, part.ref.empty() ? "-" : part.ref, part.summary, options});
    }
    write_result(format_table({{"name"}, {"kind"}, {"ref"}, {"summary"}, {"options and defaults"}}, rows));
    return;
  }
  auto out = nlohmann::ordered_json::array();
  for (const auto& part : parts) {
    auto options = nlohmann::ordered_json::array();
    for (const auto& option : part.options)
      options.push_back({{"key", option.key}, {"default", to_json(option.default_value)}, {"help", option.help}});
    out.push_back({{"name", part.name}, {"kind", part.kind}, {"ref", part.ref}, {"summary", part.summary}, {"options", options}});
  }
  print_json(out);
}

std::vector<std::string> nouns() {
  auto all = part_nouns();
  all.insert(all.begin(), "systems");
  return all;
}

}  // namespace

VerbEntry verb_list() {
  return {"list", 70, "List what this build knows by name: published systems, gates, experts, losses, recipes, ...", [](CLI::App& verb) {
            auto opt = std::make_shared<ListOptions>();
            verb.add_option("what", opt->noun, fmt::format("{}", fmt::join(nouns(), ", ")))->type_name("NOUN");
            verb.add_flag("--json", opt->json, "machine-readable output");
            verb.footer("Examples:\n  switchyard list gates\n  switchyard list systems --json");
            verb.callback([opt] { opt->noun == "systems" ? list_systems(opt->json) : list_parts(opt->noun, opt->json); });
          }};
}

}  // namespace switchyard::cli
