#include "switchyard/fields.h"

#include "base/nearest_name.h"
#include "switchyard/error.h"

#include <cmath>

namespace switchyard::detail {

void wrong_type(const ConfigNode& node, const std::string& path, const char* expected) {
  fail(ErrorKind::config, "{}'{}' is {}, expected {}", node.location(), path.empty() ? "the file" : path, node.kind_name(), expected);
}

void unknown_key(const ConfigNode& node, const std::string& path, const std::string& key, const std::vector<std::string>& known) {
  fail(ErrorKind::config, "{}unknown key '{}' in [{}]{}", node.location(), key, path, suggestion(key, known));
}

std::string joined(const std::string& path, const std::string& key) { return path.empty() ? key : path + "." + key; }

void read_value(const ConfigNode& node, const std::string& path, bool& out) {
  if (const auto* v = std::get_if<bool>(&node.value)) out = *v;
  else wrong_type(node, path, "true or false");
}

void read_value(const ConfigNode& node, const std::string& path, int64_t& out) {
  if (const auto* v = std::get_if<int64_t>(&node.value)) out = *v;
  else if (const auto* d = std::get_if<double>(&node.value); d && *d == std::floor(*d) && std::abs(*d) < 9e15) out = static_cast<int64_t>(*d);
  else wrong_type(node, path, "an integer");
}

void read_value(const ConfigNode& node, const std::string& path, double& out) {
  if (const auto* v = std::get_if<double>(&node.value)) out = *v;
  else if (const auto* i = std::get_if<int64_t>(&node.value)) out = static_cast<double>(*i);
  else wrong_type(node, path, "a number");
}

void read_value(const ConfigNode& node, const std::string& path, std::string& out) {
  if (const auto* v = node.string()) out = *v;
  else wrong_type(node, path, "a string");
}

void read_value(const ConfigNode& node, const std::string& path, BlockSpec& out) {
  if (const auto* name = node.string()) {
    out = BlockSpec(*name);
    out.options.where = node.where;
    return;
  }
  const ConfigNode* kind = node.find("kind");
  if (!kind || !kind->string()) wrong_type(node, path, "a name, or a table with the key 'kind'");
  out.kind = *kind->string();
  ConfigNode::Table rest;
  for (const auto& item : *node.table())
    if (item.first != "kind") rest.push_back(item);
  out.options = ConfigNode(std::move(rest));
  out.options.where = node.where;
}

ConfigNode write_value(const BlockSpec& value) {
  if (value.options.table() == nullptr || value.options.table()->empty()) return value.kind;
  ConfigNode::Table table{{"kind", value.kind}};
  for (const auto& item : *value.options.table()) table.push_back(item);
  return table;
}

}  // namespace switchyard::detail
