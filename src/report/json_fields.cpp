#include "report/json_fields.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "report/text.h"
#include "switchyard/error.h"

namespace switchyard::report {
namespace {

const Json kNull;

[[noreturn]] void wrong_type(const JsonAt& at, const char* expected) {
  std::string found = at.value.type_name();
  if (!at.value.is_structured()) found += " " + at.value.dump(-1, ' ', false, Json::error_handler_t::replace);
  fail(ErrorKind::checkpoint, "{}: found {}, expected {}", at.where, found, expected);
}

}  // namespace

Json parse_json(std::string_view text, const std::string& file, int64_t first_line) {
  const std::string clean = clean_utf8(text);
  try {
    return Json::parse(clean);
  } catch (const Json::parse_error& e) {
    const size_t end = std::min(clean.size(), static_cast<size_t>(e.byte > 0 ? e.byte - 1 : 0));
    const auto line = first_line + std::count(clean.begin(), clean.begin() + static_cast<std::ptrdiff_t>(end), '\n');
    std::string what = e.what();  // "[json.exception...] parse error at line 1, column 7: syntax error ..."
    if (const auto colon = what.find(": "); colon != std::string::npos) what.erase(0, colon + 2);
    fail(ErrorKind::checkpoint, "{}:{}: not valid JSON: {}", file, line, what);
  } catch (const Json::exception& e) {
    fail(ErrorKind::checkpoint, "{}:{}: not valid JSON: {}", file, first_line, e.what());
  }
}

JsonAt child(const JsonAt& at, const char* key) {
  expect_object(at);
  const std::string where = at.where + (at.where.find(": ") == std::string::npos ? ": " : ".") + key;
  if (at.value.is_null()) return {kNull, where};
  const auto found = at.value.find(key);
  return {found == at.value.end() ? kNull : *found, where};
}

JsonAt element(const JsonAt& at, size_t index) {
  return {at.value.at(index), at.where + "[" + std::to_string(index) + "]"};
}

void expect_object(const JsonAt& at) {
  if (!at.value.is_null() && !at.value.is_object()) wrong_type(at, "an object");
}

void expect_array(const JsonAt& at) {
  if (!at.value.is_null() && !at.value.is_array()) wrong_type(at, "an array");
}

double number_value(const JsonAt& at) {
  if (at.value.is_null()) return std::numeric_limits<double>::quiet_NaN();
  if (!at.value.is_number()) wrong_type(at, "a number");
  return at.value.get<double>();
}

double number_field(const JsonAt& at, const char* key) { return number_value(child(at, key)); }

int64_t count_field(const JsonAt& at, const char* key) {
  const JsonAt field = child(at, key);
  const double value = number_value(field);
  if (std::isnan(value)) return -1;
  if (value < 0 || value != std::floor(value) || value > 9007199254740992.0) wrong_type(field, "a whole number of at least 0");
  return static_cast<int64_t>(value);
}

std::string text_field(const JsonAt& at, const char* key) {
  const JsonAt field = child(at, key);
  if (field.value.is_null()) return "";
  if (field.value.is_string()) return field.value.get<std::string>();
  if (field.value.is_structured()) wrong_type(field, "text");
  return field.value.dump();
}

std::vector<double> numbers_value(const JsonAt& at) {
  expect_array(at);
  std::vector<double> out;
  out.reserve(at.value.size());
  for (size_t i = 0; i < at.value.size(); ++i) {
    const Json& v = at.value[i];  // the place is spelled only for a bad element: these arrays are long
    if (v.is_number())
      out.push_back(v.get<double>());
    else
      out.push_back(number_value(element(at, i)));
  }
  return out;
}

std::vector<double> numbers_field(const JsonAt& at, const char* key) { return numbers_value(child(at, key)); }

std::vector<std::vector<double>> number_rows(const JsonAt& at) {
  expect_array(at);
  std::vector<std::vector<double>> rows;
  rows.reserve(at.value.size());
  for (size_t i = 0; i < at.value.size(); ++i) rows.push_back(numbers_value(element(at, i)));
  return rows;
}

}  // namespace switchyard::report
