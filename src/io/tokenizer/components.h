// Readers of the components of a tokenizer.json, each one name of a table: what they share.
#pragma once

#include "io/strict_json.h"
#include "io/tokenizer/regex.h"

#include <span>
#include <string>
#include <string_view>

namespace switchyard::io {

// Error{unsupported} that names the component and what is known instead.
[[noreturn]] void refuse_component(const JsonAt& component, std::string_view known);

template <class Make>
struct ComponentEntry {
  std::string_view type;
  Make make;
};

// The maker of the component's type. Throws Error{unsupported} that lists `table`.
template <class Entry>
const auto& find_component(const JsonAt& component, std::span<const Entry> table) {
  const std::string& type = component.at("type").as_string();
  for (const Entry& entry : table)
    if (entry.type == type) return entry.make;
  std::string known;
  for (const Entry& entry : table) known.append(entry.type).append(", ");
  refuse_component(component, known + "Sequence");
}

// Calls `visit` for every step: the items of a Sequence, or the component itself.
template <class Visit>
void for_each_step(const JsonAt& component, const char* list_key, Visit&& visit) {
  if (component.at("type").as_string() != "Sequence") return visit(component);
  const JsonAt steps = component.at(list_key);
  for (size_t i = 0; i < steps.size(); ++i) for_each_step(steps.item(i), list_key, visit);
}

// {"String": ...} or {"Regex": ...}
[[nodiscard]] MatchFinder read_pattern(const JsonAt& pattern);

[[nodiscard]] int32_t read_token_id(const JsonAt& number);

[[nodiscard]] std::string read_base64(const JsonAt& text);

inline constexpr int64_t kMaxTokenId = INT32_MAX - 1;

}  // namespace switchyard::io
