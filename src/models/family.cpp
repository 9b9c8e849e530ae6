#include "models/family.h"

#include "base/config_tree.h"
#include "base/nearest_name.h"
#include "models/canonical_spec.h"
#include "switchyard/error.h"

#include <fmt/ranges.h>

#include <algorithm>

namespace switchyard {

std::vector<FamilyEntry> builtin_family_entries();

const std::vector<FamilyEntry>& families() {
  static const std::vector<FamilyEntry> all = builtin_family_entries();
  return all;
}

const FamilyEntry& find_family(const std::string& model_type) {
  std::vector<std::string> known;
  for (const auto& entry : families()) {
    if (entry.name == model_type) return entry;
    known.push_back(entry.name);
  }
  fail(ErrorKind::unsupported, "model_type '{}' is not supported{}", model_type, suggestion(model_type, known));
}

const FamilyEntry& family_of(const ConfigNode& config, const std::string& file) {
  const auto with_alias = [](const std::string& word) -> const FamilyEntry* {
    for (const auto& entry : families())
      if (std::find(entry.aliases.begin(), entry.aliases.end(), word) != entry.aliases.end()) return &entry;
    return nullptr;
  };
  const ConfigNode *architectures = config.find("architectures"), *type = config.find("model_type");
  if (!type || !type->string()) fail(ErrorKind::config, "{}: 'model_type' is missing or no string", file);
  if (architectures && architectures->array())
    for (const ConfigNode& architecture : *architectures->array())
      if (const auto* entry = architecture.string() ? with_alias(*architecture.string()) : nullptr) return *entry;
  const FamilyEntry* entry = with_alias(*type->string());
  return entry ? *entry : find_family(*type->string());
}

size_t find_layout(const FamilyEntry& family, const std::string& layout) {
  const auto names = family.family->layout_names();
  const auto found = std::find(names.begin(), names.end(), layout);
  if (found == names.end()) fail(ErrorKind::unsupported, "'{}' is not written in the layout '{}'; it has {}", family.name, layout, fmt::join(names, ", "));
  return static_cast<size_t>(found - names.begin());
}

std::optional<std::string> cannot_state(const FamilyEntry& entry, const ModelSpec& spec, bool training_rules) {
  const auto compared = [&](const ModelSpec& s) { return to_json(training_rules ? canonical(s) : without_training_rules(canonical(s))); };
  try {
    const auto config = config_from_json(entry.family->write_config(spec.resolved()), "config.json");
    const auto difference = first_difference(compared(spec), compared(entry.family->read_config(config)));
    if (difference.empty()) return std::nullopt;
    return fmt::format("the model has {}: config.json of '{}' cannot say that", difference, entry.name);
  } catch (const Error& error) {  // what could be written of it makes no model of this family
    return fmt::format("as '{}' the model would be wrong: {}", entry.name, error.what());
  }
}

}  // namespace switchyard
