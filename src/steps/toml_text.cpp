#include "steps/toml_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>

namespace switchyard {
namespace {

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') (out += '\\') += c;
    else if (c == '\n') out += "\\n";
    else if (c == '\t') out += "\\t";
    else if (byte < 0x20 || byte == 0x7f) out += fmt::format("\\u{:04X}", byte);
    else out += c;
  }
  return out + '"';
}

std::string key_text(const std::string& key) {
  const bool bare = !key.empty() && std::all_of(key.begin(), key.end(), [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '-'; });
  return bare ? key : quoted(key);
}

std::string number_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  std::string text = fmt::format("{}", value);  // shortest form that reads back to the same value
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

std::string inline_text(const ConfigNode& node) {
  struct Visitor {
    std::string operator()(std::monostate) const { return "\"\""; }
    std::string operator()(bool v) const { return v ? "true" : "false"; }
    std::string operator()(int64_t v) const { return std::to_string(v); }
    std::string operator()(double v) const { return number_text(v); }
    std::string operator()(const std::string& v) const { return quoted(v); }
    std::string operator()(const ConfigNode::Array& items) const {
      std::string out = "[";
      for (size_t i = 0; i < items.size(); ++i) out += (i ? ", " : "") + inline_text(items[i]);
      return out + "]";
    }
    std::string operator()(const ConfigNode::Table& items) const {
      std::string out = "{ ";
      for (size_t i = 0; i < items.size(); ++i) out += (i ? ", " : "") + key_text(items[i].first) + " = " + inline_text(items[i].second);
      return items.empty() ? "{}" : out + " }";
    }
  };
  return std::visit(Visitor{}, node.value);
}

void write_section(const ConfigNode::Table& table, const std::string& path, std::string& out) {
  for (const auto& [key, child] : table)
    if (!child.is_table()) out += key_text(key) + " = " + inline_text(child) + "\n";
  for (const auto& [key, child] : table) {
    if (!child.is_table()) continue;
    const std::string name = path.empty() ? key_text(key) : path + "." + key_text(key);
    out += "\n[" + name + "]\n";
    write_section(*child.table(), name, out);
  }
}

}  // namespace

std::string toml_text(const ConfigNode& root) {
  std::string out;
  if (const auto* table = root.table()) write_section(*table, "", out);
  return out;
}

}  // namespace switchyard
