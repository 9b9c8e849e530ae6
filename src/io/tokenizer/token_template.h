// Post-processors of tokenizer.json: the tokens that stand around a text.
#pragma once

#include "io/strict_json.h"

#include <cstdint>
#include <string>
#include <vector>

namespace switchyard::io {

struct TemplateToken {
  std::string name;
  int32_t id = 0;
};

struct TokenTemplate {
  std::vector<TemplateToken> prefix, suffix;
};

// Throws Error{checkpoint} that names the key, and Error{unsupported} for a type that is not known.
[[nodiscard]] TokenTemplate make_token_template(const JsonAt& component);

// The component that puts these tokens around a text.
[[nodiscard]] nlohmann::json token_template_json(const TokenTemplate& tokens);

}  // namespace switchyard::io
