// Everything that has a name in this build: what `list` prints and `completion` offers.
#pragma once

#include "switchyard/fields.h"

#include <string>
#include <vector>

namespace switchyard::cli {

struct NamedPart {
  std::string kind, name, ref, summary;  // kind: "gate", "select block", "expert", ...
  std::vector<FieldHelp> options;
};

// Nouns that `parts_of` knows: gates, losses, experts, ...
[[nodiscard]] const std::vector<std::string>& part_nouns();

// Throws Error{usage} for an unknown noun, with the nearest one.
[[nodiscard]] std::vector<NamedPart> parts_of(const std::string& noun);

}  // namespace switchyard::cli
