// Runs the tree of a template.
#pragma once

#include "io/chat/syntax.h"
#include "io/chat/template.h"

namespace switchyard::io::chat {

// Errors as ChatTemplate::render states them.
[[nodiscard]] std::string evaluate(const Body& body, const std::string& name, const nlohmann::ordered_json& variables, const RenderOptions& options);

}  // namespace switchyard::io::chat
