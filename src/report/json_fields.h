// Reading JSON whose every field may be absent: absent and null give an empty value, a wrong type is an error that
// names file, line or place, key, found and expected.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard::report {

using Json = nlohmann::ordered_json;  // facts are shown in the order of the file

// One JSON object and where it stands, for messages: "runs/a/metrics.jsonl:17", "runs/a/trace.json: passage".
struct JsonAt {
  const Json& value;
  std::string where;
};

// Parses `text` (UTF-8 is repaired first). Throws Error{checkpoint} with `file`, the line counted from `first_line`, and
// what the parser expected.
[[nodiscard]] Json parse_json(std::string_view text, const std::string& file, int64_t first_line = 1);

// The child object or array under `key`; null when absent.
[[nodiscard]] JsonAt child(const JsonAt& at, const char* key);
[[nodiscard]] JsonAt element(const JsonAt& at, size_t index);

// Throws Error{checkpoint} unless the value is null, or an object / an array.
void expect_object(const JsonAt& at);
void expect_array(const JsonAt& at);

// NaN when absent or null. Throws Error{checkpoint} for anything but a number.
[[nodiscard]] double number_field(const JsonAt& at, const char* key);
[[nodiscard]] double number_value(const JsonAt& at);
// -1 when absent. Throws unless a whole number of at least 0 that float64 holds exactly.
[[nodiscard]] int64_t count_field(const JsonAt& at, const char* key);
// Empty when absent. A number or a boolean is given as its text.
[[nodiscard]] std::string text_field(const JsonAt& at, const char* key);
// Empty when absent. null elements become NaN.
[[nodiscard]] std::vector<double> numbers_field(const JsonAt& at, const char* key);
[[nodiscard]] std::vector<double> numbers_value(const JsonAt& at);
[[nodiscard]] std::vector<std::vector<double>> number_rows(const JsonAt& at);

}  // namespace switchyard::report
