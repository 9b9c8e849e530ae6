// JSON of files that come from strangers: reading that rejects what a lenient reader hides (repeated keys, extreme
// nesting), and access whose errors name the file and the key.
#pragma once

#include "switchyard/error.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace switchyard::io {

// Throws Error{checkpoint} that starts with `name`: not JSON (with the byte), a key given twice, deeper than 64 levels.
[[nodiscard]] nlohmann::json parse_strict_json(std::string_view text, const std::string& name);

// A value and where it stands ("tokenizer.json: model.vocab"). Refers to the parsed document: keep that alive.
class JsonAt {
 public:
  JsonAt(const nlohmann::json& value, std::string where) : value_(&value), where_(std::move(where)) {}

  [[nodiscard]] const nlohmann::json& value() const noexcept { return *value_; }
  [[nodiscard]] const std::string& where() const noexcept { return where_; }

  // Missing and null are the same for has() and get(); at() wants a value.
  [[nodiscard]] bool has(std::string_view key) const;
  [[nodiscard]] JsonAt at(std::string_view key) const;
  [[nodiscard]] JsonAt item(size_t index) const;  // of an array; index < size()
  [[nodiscard]] size_t size() const;              // of an array

  [[nodiscard]] const std::string& as_string() const;
  [[nodiscard]] int64_t as_integer() const;
  [[nodiscard]] bool as_bool() const;
  [[nodiscard]] const nlohmann::json::object_t& as_object() const;

  [[nodiscard]] bool get_bool(std::string_view key, bool otherwise) const;
  [[nodiscard]] std::string get_string(std::string_view key, const std::string& otherwise) const;

  // Error{checkpoint} "where: expected ..., found ...".
  [[noreturn]] void wrong(std::string_view expected) const;

 private:
  const nlohmann::json* value_;
  std::string where_;
};

// Text of a JSON value for a message: at most 40 characters, all printable.
[[nodiscard]] std::string show(const nlohmann::json& value);

}  // namespace switchyard::io
