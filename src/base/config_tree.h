// Text formats in and out of ConfigNode. Torch-free and fuzzed (tests/fuzz/recipe_fuzz.cpp).
#pragma once

#include "switchyard/config.h"

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>

namespace switchyard {

// Throws Error{config} "file:line:column: what is wrong". Keys keep their file order.
[[nodiscard]] ConfigNode parse_toml(std::string_view text, const std::string& file);
[[nodiscard]] ConfigNode parse_json(std::string_view text, const std::string& file);
[[nodiscard]] ConfigNode config_from_json(const nlohmann::ordered_json& json, const std::string& file);
[[nodiscard]] nlohmann::ordered_json to_json(const ConfigNode& node);

// Applies "a.b.c=value" (a TOML value; a bare word is a string) to a tree; missing tables on the way are made, so that an
// unknown name is reported by whoever reads the tree. Array items are addressed by number: "losses.0.weight=0".
void apply_override(ConfigNode& root, std::string_view assignment);

}  // namespace switchyard
