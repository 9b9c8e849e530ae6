#include "base/config_tree.h"

#include "switchyard/error.h"

#define TOML_ENABLE_FORMATTERS 0
#include <toml++/toml.h>

#include <algorithm>
#include <charconv>
#include <sstream>

namespace switchyard {
namespace {

using File = std::shared_ptr<const std::string>;
using json = nlohmann::ordered_json;

// Deep enough for any recipe, shallow enough for the stack.
constexpr int kMaxDepth = 64;

ConfigNode from_toml(const toml::node& node, const File& file);

ConfigNode::Table table_from_toml(const toml::table& table, const File& file) {
  ConfigNode::Table out;
  for (const auto& [key, child] : table) out.emplace_back(std::string(key.str()), from_toml(child, file));
  // toml++ sorts by name; the reader's order is the file's.
  std::stable_sort(out.begin(), out.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second.where.line, a.second.where.column) < std::pair(b.second.where.line, b.second.where.column);
  });
  return out;
}

ConfigNode from_toml(const toml::node& node, const File& file) {
  ConfigNode out;
  if (const auto* v = node.as_boolean()) out.value = v->get();
  else if (const auto* v = node.as_integer()) out.value = v->get();
  else if (const auto* v = node.as_floating_point()) out.value = v->get();
  else if (const auto* v = node.as_string()) out.value = v->get();
  else if (const auto* v = node.as_table()) out.value = table_from_toml(*v, file);
  else if (const auto* v = node.as_array()) {
    ConfigNode::Array items;
    for (const auto& item : *v) items.push_back(from_toml(item, file));
    out.value = std::move(items);
  } else {
    const auto at = node.source().begin;
    fail(ErrorKind::config, "{}:{}:{}: dates and times have no meaning here", *file, at.line, at.column);
  }
  const auto at = node.source().begin;
  out.where = {file, static_cast<int>(at.line), static_cast<int>(at.column)};
  return out;
}

ConfigNode from_json(const json& value, const File& file, int depth) {
  if (depth > kMaxDepth) fail(ErrorKind::config, "{}: nested deeper than {} levels", *file, kMaxDepth);
  ConfigNode out;
  out.where.file = file;
  switch (value.type()) {
    case json::value_t::boolean: out.value = value.get<bool>(); break;
    case json::value_t::number_integer: out.value = value.get<int64_t>(); break;
    case json::value_t::number_unsigned:
      if (value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) out.value = value.get<double>();
      else out.value = value.get<int64_t>();
      break;
    case json::value_t::number_float: out.value = value.get<double>(); break;
    case json::value_t::string: out.value = value.get<std::string>(); break;
    case json::value_t::array: {
      ConfigNode::Array items;
      for (const auto& item : value) items.push_back(from_json(item, file, depth + 1));
      out.value = std::move(items);
      break;
    }
    case json::value_t::object: {
      ConfigNode::Table items;
      for (const auto& [key, item] : value.items()) items.emplace_back(key, from_json(item, file, depth + 1));
      out.value = std::move(items);
      break;
    }
    default: break;
  }
  return out;
}

ConfigNode parse_scalar(std::string_view text) {
  const File file = std::make_shared<const std::string>("--set");
  try {
    const auto table = toml::parse("v = " + std::string(text), std::string_view("--set"));
    return from_toml(*table.get("v"), file);
  } catch (const toml::parse_error&) {
    ConfigNode bare{std::string(text)};
    bare.where.file = file;
    return bare;
  }
}

}  // namespace

const ConfigNode* ConfigNode::find(std::string_view key) const {
  const auto* t = table();
  if (!t) return nullptr;
  const auto it = std::find_if(t->begin(), t->end(), [&](const auto& item) { return item.first == key; });
  return it == t->end() ? nullptr : &it->second;
}

ConfigNode* ConfigNode::find(std::string_view key) {
  return const_cast<ConfigNode*>(std::as_const(*this).find(key));
}

std::string ConfigNode::location() const {
  if (!where.file) return "";
  if (where.line == 0) return *where.file + ": ";
  return fmt::format("{}:{}:{}: ", *where.file, where.line, where.column);
}

std::string_view ConfigNode::kind_name() const {
  constexpr std::string_view names[] = {"nothing", "a boolean", "an integer", "a number", "a string", "an array", "a table"};
  return names[value.index()];
}

ConfigNode parse_toml(std::string_view text, const std::string& file) {
  const File name = std::make_shared<const std::string>(file);
  try {
    const auto table = toml::parse(text, std::string_view(file));
    ConfigNode root{table_from_toml(table, name)};
    root.where = {name, 1, 1};
    return root;
  } catch (const toml::parse_error& e) {
    const auto at = e.source().begin;
    fail(ErrorKind::config, "{}:{}:{}: {}", file, at.line, at.column, e.description());
  }
}

ConfigNode parse_json(std::string_view text, const std::string& file) {
  // A depth limit before the parser recurses: hostile input must not exhaust the stack.
  int depth = 0, deepest = 0;
  const auto guard = [&](int, json::parse_event_t event, json&) {
    if (event == json::parse_event_t::object_start || event == json::parse_event_t::array_start) deepest = std::max(deepest, ++depth);
    if (event == json::parse_event_t::object_end || event == json::parse_event_t::array_end) --depth;
    if (deepest > kMaxDepth) throw Error(ErrorKind::config, fmt::format("{}: nested deeper than {} levels", file, kMaxDepth));
    return true;
  };
  // The parser takes a zero byte for the end of the text.
  if (const auto zero = text.find('\0'); zero != std::string_view::npos)
    fail(ErrorKind::config, "{}: zero byte at offset {}, expected JSON text", file, zero);
  try {
    return config_from_json(json::parse(text, guard), file);
  } catch (const json::exception& e) {
    fail(ErrorKind::config, "{}: not valid JSON: {}", file, e.what());
  }
}

ConfigNode config_from_json(const json& value, const std::string& file) {
  return from_json(value, std::make_shared<const std::string>(file), 0);
}

json to_json(const ConfigNode& node) {
  struct Visitor {
    json operator()(std::monostate) const { return nullptr; }
    json operator()(bool v) const { return v; }
    json operator()(int64_t v) const { return v; }
    json operator()(double v) const { return v; }
    json operator()(const std::string& v) const { return v; }
    json operator()(const ConfigNode::Array& v) const {
      json out = json::array();
      for (const auto& item : v) out.push_back(to_json(item));
      return out;
    }
    json operator()(const ConfigNode::Table& v) const {
      json out = json::object();
      for (const auto& [key, item] : v) out[key] = to_json(item);
      return out;
    }
  };
  return std::visit(Visitor{}, node.value);
}

void apply_override(ConfigNode& root, std::string_view assignment) {
  const auto equals = assignment.find('=');
  if (equals == std::string_view::npos || equals == 0)
    fail(ErrorKind::usage, "--set {}: expected key=value, for example --set train.steps=100", assignment);
  ConfigNode* node = &root;
  std::string_view path = assignment.substr(0, equals);
  while (!path.empty() && path.back() == ' ') path.remove_suffix(1);  // "key = value", as in a file
  while (true) {
    const auto dot = path.find('.');
    const std::string key(path.substr(0, dot));
    if (key.empty()) fail(ErrorKind::usage, "--set {}: empty name between dots", assignment);
    if (auto* items = std::get_if<ConfigNode::Array>(&node->value)) {
      size_t index = 0;
      const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), index);
      if (error != std::errc() || end != key.data() + key.size() || index >= items->size())
        fail(ErrorKind::usage, "--set {}: '{}' is no index of an array of {} items", assignment, key, items->size());
      node = &(*items)[index];
    } else {
      // A block given in short form ("linear") becomes a table when one of its options is set.
      if (const auto* kind = node->string(); kind && dot == std::string_view::npos) node->value = ConfigNode::Table{{"kind", *kind}};
      else if (!node->is_table()) node->value = ConfigNode::Table{};
      ConfigNode* child = node->find(key);
      if (!child) {
        node->table()->emplace_back(key, ConfigNode{});
        child = &node->table()->back().second;
        child->where.file = std::make_shared<const std::string>("--set");
      }
      node = child;
    }
    if (dot == std::string_view::npos) break;
    path.remove_prefix(dot + 1);
  }
  std::string_view value = assignment.substr(equals + 1);
  while (!value.empty() && value.front() == ' ') value.remove_prefix(1);
  *node = parse_scalar(value);
}

}  // namespace switchyard
