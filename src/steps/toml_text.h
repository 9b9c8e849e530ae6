// A value tree as TOML text that parse_toml reads back to an equal tree.
#pragma once

#include "switchyard/config.h"

#include <string>

namespace switchyard {

// `root` is a table. Sub-tables become [sections]; tables inside arrays are written in line.
[[nodiscard]] std::string toml_text(const ConfigNode& root);

}  // namespace switchyard
