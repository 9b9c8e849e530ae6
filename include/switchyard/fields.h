// One list of fields per options aggregate gives reading, defaults, help and printing:
//
//   struct Options {
//     int64_t k = 2;
//     template <class V> void fields(V&& v) { v("k", k, "experts per token"); }
//   };
//
// read_fields rejects unknown keys and wrong types with file, line and the nearest valid name.
#pragma once

#include "switchyard/config.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

namespace switchyard {

template <class T>
concept HasFields = requires(T t) { t.fields([](const char*, auto&, const char*) {}); };

// An aggregate with `std::string kind` that may be given as that word alone, as a BlockSpec may.
template <class T>
concept HasShortForm = HasFields<T> && T::kShortForm;

namespace detail {

[[noreturn]] void wrong_type(const ConfigNode& node, const std::string& path, const char* expected);
[[noreturn]] void unknown_key(const ConfigNode& node, const std::string& path, const std::string& key,
                              const std::vector<std::string>& known);
std::string joined(const std::string& path, const std::string& key);

void read_value(const ConfigNode& node, const std::string& path, bool& out);
void read_value(const ConfigNode& node, const std::string& path, int64_t& out);
void read_value(const ConfigNode& node, const std::string& path, double& out);
void read_value(const ConfigNode& node, const std::string& path, std::string& out);
void read_value(const ConfigNode& node, const std::string& path, BlockSpec& out);
inline void read_value(const ConfigNode& node, const std::string&, ConfigNode& out) { out = node; }  // read later, by who knows its keys

ConfigNode write_value(const BlockSpec& value);

template <class T> struct is_vector : std::false_type {};
template <class T> struct is_vector<std::vector<T>> : std::true_type {};
template <class T> struct is_optional : std::false_type {};
template <class T> struct is_optional<std::optional<T>> : std::true_type {};

}  // namespace detail

template <HasFields T> void read_fields(T& options, const ConfigNode& node, const std::string& path = "");

// Reads one value of any supported type; `path` names it in errors.
template <class T> void read_any(const ConfigNode& node, const std::string& path, T& out) {
  if constexpr (detail::is_optional<T>::value) {
    if (node.is_null()) { out.reset(); return; }
    if (!out) out.emplace();
    read_any(node, path, *out);
  } else if constexpr (detail::is_vector<T>::value) {
    const auto* items = node.array();
    if (!items) detail::wrong_type(node, path, "an array");
    out.clear();
    for (size_t i = 0; i < items->size(); ++i) read_any((*items)[i], path + "[" + std::to_string(i) + "]", out.emplace_back());
  } else if constexpr (HasShortForm<T>) {
    if (const auto* kind = node.string()) out.kind = *kind;
    else read_fields(out, node, path);
  } else if constexpr (HasFields<T>) {
    read_fields(out, node, path);
  } else {
    detail::read_value(node, path, out);
  }
}

// Fills `options` from a table; keys that are absent keep their defaults. Throws Error{config}.
template <HasFields T> void read_fields(T& options, const ConfigNode& node, const std::string& path) {
  if (!node.is_table()) detail::wrong_type(node, path, "a table");
  std::vector<std::string> known;
  options.fields([&](const char* key, auto& value, const char*) {
    known.emplace_back(key);
    if (const ConfigNode* child = node.find(key)) read_any(*child, detail::joined(path, key), value);
  });
  for (const auto& [key, child] : *node.table())
    if (std::find(known.begin(), known.end(), key) == known.end()) detail::unknown_key(child, path, key, known);
}

// The full form of an aggregate: every field with the value that will be used.
template <class T> ConfigNode write_any(const T& value) {
  if constexpr (detail::is_optional<T>::value) {
    return value ? write_any(*value) : ConfigNode{};
  } else if constexpr (detail::is_vector<T>::value) {
    ConfigNode::Array items;
    for (const auto& item : value) items.push_back(write_any(static_cast<const typename T::value_type&>(item)));
    return items;
  } else if constexpr (std::is_same_v<T, BlockSpec>) {
    return detail::write_value(value);
  } else if constexpr (HasFields<T>) {
    ConfigNode::Table table;
    T copy = value;
    copy.fields([&](const char* key, auto& field, const char*) {
      auto node = write_any(field);
      if (!node.is_null()) table.emplace_back(key, std::move(node));
    });
    return table;
  } else {
    return ConfigNode(value);
  }
}

// For plug-ins without options.
struct NoOptions {
  template <class V> void fields(V&&) {}
};

struct FieldHelp {
  std::string key, help;
  ConfigNode default_value;
};

// Keys, defaults and help of an aggregate, for `list`, `--help` and the docs.
template <HasFields T> std::vector<FieldHelp> describe_fields(T options = {}) {
  std::vector<FieldHelp> out;
  options.fields([&](const char* key, auto& value, const char* help) { out.push_back({key, help, write_any(value)}); });
  return out;
}

}  // namespace switchyard
