#include "models/family.h"

#include "base/config_tree.h"
#include "base/nearest_name.h"
#include "models/canonical_spec.h"
#include "switchyard/error.h"

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

std::optional<std::string> cannot_state(const FamilyEntry& entry, const ModelSpec& spec) {
  try {
    const auto config = config_from_json(entry.family->write_config(spec.resolved()), "config.json");
    const auto difference = first_difference(to_json(canonical(spec)), to_json(canonical(entry.family->read_config(config))));
    if (difference.empty()) return std::nullopt;
    return fmt::format("the model has {}: config.json of '{}' cannot say that", difference, entry.name);
  } catch (const Error& error) {  // what could be written of it makes no model of this family
    return fmt::format("as '{}' the model would be wrong: {}", entry.name, error.what());
  }
}

}  // namespace switchyard
