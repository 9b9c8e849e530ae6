#include "io/tokenizer/components.h"

#include "io/tokenizer/base64.h"

namespace switchyard::io {

void refuse_component(const JsonAt& component, std::string_view known) {
  const std::string found = component.value().is_object() && component.has("type") ? "'" + component.at("type").as_string() + "'" : show(component.value());
  fail(ErrorKind::unsupported, "{}: {} is not supported; known: {}", component.where(), found, known);
}

MatchFinder read_pattern(const JsonAt& pattern) {
  if (pattern.has("Regex")) return find_regex(pattern.at("Regex").as_string(), pattern.where());
  return find_literal(pattern.at("String").as_string());
}

int32_t read_token_id(const JsonAt& number) {
  const int64_t id = number.as_integer();
  if (id < 0 || id > kMaxTokenId) number.wrong("a token id of at least 0 and below 2^31 - 1");
  return static_cast<int32_t>(id);
}

std::string read_base64(const JsonAt& text) {
  auto bytes = from_base64(text.as_string());
  if (!bytes) text.wrong("base64");
  return *std::move(bytes);
}

}  // namespace switchyard::io
