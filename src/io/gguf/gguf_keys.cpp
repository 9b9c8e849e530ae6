#include "io/gguf/gguf_keys.h"

#include "switchyard/error.h"

#include <algorithm>

namespace switchyard::io {

using nlohmann::ordered_json;

void KeyWriter::put(std::string_view key, GgufValue value) {
  const std::string name = std::string(architecture_) + "." + std::string(key);
  const auto there = std::find_if(out_.begin(), out_.end(), [&](const auto& item) { return item.first == name; });
  if (there == out_.end()) out_.emplace_back(name, std::move(value));
  else there->second = std::move(value);
}

void KeyWriter::sizes(std::string_view key, const std::vector<int64_t>& values) {
  GgufValue::Array items;
  for (const int64_t value : values) {
    if (value > INT32_MAX) fail(ErrorKind::unsupported, "{} does not fit the 32-bit lists of GGUF", value);
    items.push_back(gguf_i32(static_cast<int32_t>(value)));
  }
  put(key, {GgufKind::array, std::move(items), GgufKind::i32});
}

const GgufValue* KeyReader::value(std::string_view key) const { return find(metadata_, full(key)); }

void KeyReader::refuse(std::string_view key, std::string_view what) const {
  const GgufValue* found = value(key);
  if (!found) fail(ErrorKind::checkpoint, "{}: metadata '{}' is missing", file_, full(key));
  fail(ErrorKind::unsupported, "{}: metadata '{}' is {}, expected {}", file_, full(key), shown(*found), what);
}

namespace {

bool is_size(const ordered_json& value) {
  return value.is_number_integer() && value >= 0 && !(value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX);
}

}  // namespace

int64_t KeyReader::size(std::string_view key, std::optional<int64_t> absent) const {
  if (!has(key) && absent) return *absent;
  const ordered_json plain = has(key) ? to_json(*value(key), 4) : ordered_json();
  if (!is_size(plain)) refuse(key, "one size");
  return plain.get<int64_t>();
}

double KeyReader::number(std::string_view key, std::optional<double> absent) const {
  if (!has(key) && absent) return *absent;
  const ordered_json plain = has(key) ? to_json(*value(key), 4) : ordered_json();
  if (!plain.is_number()) refuse(key, "a number");
  return plain.get<double>();
}

bool KeyReader::flag(std::string_view key, bool absent) const {
  if (!has(key)) return absent;
  const ordered_json plain = to_json(*value(key), 4);
  if (!plain.is_boolean()) refuse(key, "true or false");
  return plain.get<bool>();
}

std::string KeyReader::text(std::string_view key, std::string_view absent) const {
  if (!has(key)) return std::string(absent);
  if (!value(key)->string()) refuse(key, "a string");
  return *value(key)->string();
}

std::vector<int64_t> KeyReader::sizes(std::string_view key, size_t count) const {
  if (!has(key) || !value(key)->array()) return std::vector<int64_t>(count, size(key));
  std::vector<int64_t> out;
  for (const GgufValue& item : *value(key)->array()) {
    const ordered_json plain = to_json(item);
    if (!is_size(plain)) refuse(key, "sizes");
    out.push_back(plain.get<int64_t>());
  }
  if (out.size() != count) refuse(key, fmt::format("{} sizes", count));
  return out;
}

}  // namespace switchyard::io
