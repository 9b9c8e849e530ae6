// The value tree that recipes, specifications and options are read from. Every node knows where it stood in its file, so
// that a mistake can be reported as file:line:column.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace switchyard {

struct SourcePosition {
  std::shared_ptr<const std::string> file;  // null for values made in code
  int line = 0, column = 0;                 // 1-based; 0 when the format has no positions
};

struct ConfigNode {
  using Array = std::vector<ConfigNode>;
  using Table = std::vector<std::pair<std::string, ConfigNode>>;  // in file order; keys are unique

  std::variant<std::monostate, bool, int64_t, double, std::string, Array, Table> value;
  SourcePosition where;

  ConfigNode() = default;
  ConfigNode(bool v) : value(v) {}
  ConfigNode(int v) : value(int64_t{v}) {}
  ConfigNode(int64_t v) : value(v) {}
  ConfigNode(double v) : value(v) {}
  ConfigNode(const char* v) : value(std::string(v)) {}
  ConfigNode(std::string v) : value(std::move(v)) {}
  ConfigNode(Array v) : value(std::move(v)) {}
  ConfigNode(Table v) : value(std::move(v)) {}
  ConfigNode(std::initializer_list<std::pair<std::string, ConfigNode>> table) : value(Table(table)) {}

  [[nodiscard]] bool is_null() const { return std::holds_alternative<std::monostate>(value); }
  [[nodiscard]] bool is_table() const { return std::holds_alternative<Table>(value); }
  [[nodiscard]] const Table* table() const { return std::get_if<Table>(&value); }
  [[nodiscard]] Table* table() { return std::get_if<Table>(&value); }
  [[nodiscard]] const Array* array() const { return std::get_if<Array>(&value); }
  [[nodiscard]] const std::string* string() const { return std::get_if<std::string>(&value); }

  // The child of a table; nullptr when this is no table or has no such key.
  [[nodiscard]] const ConfigNode* find(std::string_view key) const;
  [[nodiscard]] ConfigNode* find(std::string_view key);

  // "file:line:column: " or "" when nothing is known: the head of an error message.
  [[nodiscard]] std::string location() const;
  // "an integer", "a table", ...
  [[nodiscard]] std::string_view kind_name() const;
};

// A plug-in by name with its options: `"linear"` or `{ kind = "jitter", eps = 0.01 }` in a recipe.
struct BlockSpec {
  std::string kind;
  ConfigNode options = ConfigNode::Table{};  // a table without the key `kind`

  BlockSpec() = default;
  BlockSpec(const char* k) : kind(k) {}
  BlockSpec(std::string k) : kind(std::move(k)) {}
  BlockSpec(std::string k, ConfigNode o) : kind(std::move(k)), options(std::move(o)) {
    if (options.is_null()) options = ConfigNode::Table{};
  }
};

}  // namespace switchyard
