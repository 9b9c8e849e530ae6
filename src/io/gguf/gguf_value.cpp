#include "io/gguf/gguf.h"

#include "switchyard/error.h"

#include <array>
#include <cmath>
#include <cstdlib>

namespace switchyard::io {

using nlohmann::ordered_json;

std::string_view name_of(GgufKind kind) noexcept {
  constexpr std::array<std::string_view, 13> names{"u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64"};
  return names[static_cast<size_t>(kind)];
}

GgufValue gguf_u32(int64_t value) {
  if (value < 0 || value > UINT32_MAX) fail(ErrorKind::unsupported, "{} does not fit the unsigned 32-bit metadata of GGUF", value);
  return {GgufKind::u32, static_cast<uint64_t>(value)};
}
GgufValue gguf_i32(int32_t value) { return {GgufKind::i32, int64_t{value}}; }
GgufValue gguf_f32(double value) { return {GgufKind::f32, static_cast<double>(static_cast<float>(value))}; }
GgufValue gguf_bool(bool value) { return {GgufKind::boolean, value}; }
GgufValue gguf_string(std::string value) { return {GgufKind::string, std::move(value)}; }
GgufValue gguf_strings(std::vector<std::string> values) {
  GgufValue::Array items;
  items.reserve(values.size());
  for (std::string& value : values) items.push_back(gguf_string(std::move(value)));
  return {GgufKind::array, std::move(items), GgufKind::string};
}

ordered_json to_json(const GgufValue& value, size_t longest) {
  if (value.kind == GgufKind::f32) {  // 1e-05, not 9.999999747378752e-06
    const auto narrow = static_cast<float>(std::get<double>(value.value));
    return std::isfinite(narrow) ? ordered_json(std::strtod(fmt::format("{}", narrow).c_str(), nullptr)) : ordered_json(fmt::format("{}", narrow));
  }
  if (const GgufValue::Array* items = value.array()) {
    ordered_json out = ordered_json::array();
    for (size_t i = 0; i < items->size() && i < longest; ++i) out.push_back(to_json((*items)[i], longest));
    if (items->size() > longest) out.push_back(fmt::format("... {} {} values", items->size(), name_of(value.items)));
    return out;
  }
  if (value.kind == GgufKind::f64 && !std::isfinite(std::get<double>(value.value))) return fmt::format("{}", std::get<double>(value.value));
  return std::visit([](const auto& plain) -> ordered_json {
    if constexpr (std::is_same_v<std::decay_t<decltype(plain)>, GgufValue::Array>) return nullptr;
    else return plain;
  }, value.value);
}

std::string shown(const GgufValue& value) {
  return to_json(value, 4).dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

const GgufValue* find(const GgufMetadata& metadata, std::string_view key) {
  for (const auto& [name, value] : metadata)
    if (name == key) return &value;
  return nullptr;
}

}  // namespace switchyard::io
