#include "cli/explain.h"

#include "base/config_tree.h"
#include "cli/output.h"
#include "cli/share_dir.h"
#include "cli/source_heads.h"
#include "steps/recipe.h"
#include "switchyard/error.h"
#include "switchyard/moe.h"
#include "vision/task_recipe.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <optional>
#include <sstream>

namespace switchyard::cli {
namespace {

// Folders of the plug-ins, by what `list` calls their kind.
std::string folder_of(const std::string& kind) {
  static const std::map<std::string, std::string> folders = {{"gate", "gates"}, {"expert", "experts"}, {"join", "join"}, {"loss", "losses"}, {"priority", "capacity"},
                                                             {"dispatcher", "dispatch"}, {"task", "vision/tasks"}, {"family", "models/families"}, {"step", "steps/kinds"}};
  if (const auto found = folders.find(kind); found != folders.end()) return "src/" + found->second;
  if (const size_t block = kind.find(" block"); block != std::string::npos) return "src/gates/" + kind.substr(0, block);
  return "";
}

// Layers like those of the recipe, with the smallest experts that can be built: what the worst of them says.
std::string causality_of(const ModelSpec& spec) {
  // Mixtures at sites have no capacity, and a causal model refuses gates that look ahead.
  if (!spec.moe && !spec.mixtures.empty()) return name_of(spec.causal ? Causality::strict : Causality::non_causal);
  std::optional<Causality> worst;
  for (int64_t i = 0; i < spec.num_layers; ++i) {
    const auto m = spec.layer(i).moe;
    if (!m) continue;
    const MoELayer layer({.d_model = spec.d_model, .d_expert = 1, .num_experts = m->num_experts, .gate = m->gate, .experts = "relu",
                          .capacity = m->capacity, .init_std = 0, .init_out_std = 0});
    worst = std::max(worst.value_or(Causality::strict), layer.causality());
  }
  return worst ? name_of(*worst) : "";
}

Cost cost_of(const Recipe& recipe) {
  const ModelSpec spec = resolved_model(recipe);
  const auto count = count_parameters(spec);
  Cost cost{.total = count.total, .active = count.active, .flops_per_token = count.flops_per_token, .causality = causality_of(spec)};
  for (const auto& part : count.parts)
    if (part.name == "router" || part.name == "mixture routers") cost.router += part.total;
  return cost;
}

std::string indented(const std::string& text, const std::string& by) {
  std::istringstream lines(text);
  std::string out;
  for (std::string line; std::getline(lines, line);) out += (line.empty() ? "" : by + line) + "\n";
  return out;
}

std::string cost_text(const Cost& c) {
  if (c.total == 0) return "a task on made-up data, without a language model";
  return fmt::format("{} parameters, {} active per token, {} in routers; {} FLOPs per token forward (the tiny model of the recipe)",
                     format_count(static_cast<double>(c.total)), format_count(static_cast<double>(c.active)), format_count(static_cast<double>(c.router)),
                     format_count(c.flops_per_token));
}

std::string option_text(const FieldHelp& option) { return fmt::format("{} = {}: {}", option.key, to_json(option.default_value).dump(), option.help); }

std::string no_head(const std::string& head) { return head.empty() ? "(no comment at its head)\n" : head; }

}  // namespace

ExplainedSystem explain_system(const System& system) {
  const auto recipe = share_dir() / system.recipe;
  ExplainedSystem out{system, head_of_file(system.recipe), {}, is_task_recipe(recipe) ? Cost{} : cost_of(load_recipe(recipe))};
  for (const auto& file : system.files) out.files.emplace_back(file, head_of_file(file));
  return out;
}

std::vector<ExplainedPart> explain_parts(const std::string& name) {
  std::vector<ExplainedPart> out;
  for (const auto& noun : part_nouns()) {
    if (noun == "models" || noun == "recipes") continue;
    for (const auto& part : parts_of(noun)) {
      if (part.name != name) continue;
      const std::string folder = folder_of(part.kind), file = folder.empty() ? "" : folder + "/" + name + ".cpp";
      out.push_back({part, file, file.empty() ? "" : head_of_file(file)});
    }
  }
  return out;
}

std::vector<std::string> explainable_names() {
  std::vector<std::string> names;
  for (const auto& system : read_systems(share_dir() / "systems.tsv")) names.push_back(system.id);
  for (const auto& noun : part_nouns())
    for (const auto& part : parts_of(noun))
      if (noun != "models" && noun != "recipes") names.push_back(part.name);
  return names;
}

std::string causality_sentence(const std::string& causality) {
  if (causality == name_of(Causality::strict)) return "The output of a token depends on no other token: for decoders too.";
  if (causality == name_of(Causality::batch_dependent))
    return "The output of a token depends on others only through the capacity of experts: who is dropped changes with the batch.";
  if (causality == name_of(Causality::non_causal)) return "It looks at later tokens: not for decoders, whose future it would leak.";
  return "";
}

std::string to_text(const ExplainedSystem& e) {
  std::string out = fmt::format("{}: {}\n\n{}\n", e.system.id, e.system.name, no_head(e.about));
  out += fmt::format("source     {} ({})\nrecipe     {}\ncost       {}\n", e.system.ref, e.system.kind, e.system.recipe, cost_text(e.cost));
  if (!e.cost.causality.empty()) out += "causality  " + causality_sentence(e.cost.causality) + "\n";
  out += fmt::format("tests      {}\ntry        switchyard {} {}{}\n\nFiles\n", fmt::join(e.system.tests, " "), e.cost.total == 0 ? "task" : "train", e.system.recipe,
                     e.cost.total == 0 ? "" : " --dry-run");
  for (const auto& [path, head] : e.files) out += "\n  " + path + "\n" + indented(no_head(head), "    ");
  return out;
}

std::string to_text(const ExplainedPart& e) {
  std::string out = fmt::format("{} ({}): {}\n", e.part.name, e.part.kind, e.part.summary);
  if (!e.part.ref.empty()) out += "source     " + e.part.ref + "\n";
  if (!e.file.empty() && !e.about.empty()) out += "file       " + e.file + "\n\n" + indented(e.about, "  ");
  if (!e.part.options.empty()) out += "\noptions\n";
  for (const auto& option : e.part.options) out += "  " + option_text(option) + "\n";
  return out;
}

nlohmann::ordered_json to_json(const ExplainedSystem& e) {
  const auto& s = e.system;
  auto files = nlohmann::ordered_json::array();
  for (const auto& [path, head] : e.files) files.push_back({{"path", path}, {"about", head}});
  return {{"id", s.id}, {"name", s.name}, {"kind", s.kind}, {"ref", s.ref}, {"about", e.about}, {"recipe", s.recipe},
          {"cost", {{"parameters", e.cost.total}, {"active", e.cost.active}, {"router", e.cost.router}, {"flops_per_token", e.cost.flops_per_token}}},
          {"causality", e.cost.causality.empty() ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(e.cost.causality)}, {"files", files}, {"tests", s.tests}};
}

nlohmann::ordered_json to_json(const ExplainedPart& e) {
  auto options = nlohmann::ordered_json::array();
  for (const auto& o : e.part.options) options.push_back({{"key", o.key}, {"default", to_json(o.default_value)}, {"help", o.help}});
  return {{"name", e.part.name}, {"kind", e.part.kind}, {"ref", e.part.ref}, {"summary", e.part.summary}, {"file", e.file}, {"about", e.about}, {"options", options}};
}

std::string to_markdown(const std::vector<ExplainedSystem>& systems, const std::string& kind, const std::string& boards) {
  std::string out = fmt::format("# Published systems of kind {}\n\nWritten by `switchyard explain --markdown {}` from systems.tsv and the heads of recipes and sources{}.\n", kind,
                                kind, boards.empty() ? "" : ", and from measured comparisons");
  out += boards;
  for (const auto& e : systems) {
    if (e.system.kind != kind) continue;
    out += fmt::format("\n## {}\n\n`{}`, {}. {}\n\n```\n{}```\n\n", e.system.name, e.system.id, e.system.ref, causality_sentence(e.cost.causality), no_head(e.about));
    out += fmt::format("Recipe `{}`: {}.\n\n", e.system.recipe, cost_text(e.cost));
    for (const auto& [path, head] : e.files) out += fmt::format("`{}`\n\n```\n{}```\n\n", path, no_head(head));
  }
  return out;
}

}  // namespace switchyard::cli
