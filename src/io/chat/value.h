// Values of a running template, with the meanings that Python gives to them.
#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace switchyard::io::chat {

class Value;
using List = std::vector<Value>;
using Dict = std::vector<std::pair<std::string, Value>>;  // in the order of insertion

// What a call passes: by position, and by name.
struct Call {
  List positional;
  Dict named;
};
using Function = std::function<Value(const Call&)>;

class Value {
 public:
  enum class Kind { undefined, none, boolean, integer, number, string, list, dict, name_space, function };

  Value() = default;  // undefined
  static Value undefined(std::string name);  // the name is for errors
  static Value none();
  static Value boolean(bool value);
  static Value integer(int64_t value);
  static Value number(double value);
  static Value text(std::string value);
  static Value list(List items);
  static Value dict(Dict items);
  static Value name_space(Dict items);
  static Value function(Function function);

  [[nodiscard]] Kind kind() const { return kind_; }
  [[nodiscard]] bool is(Kind kind) const { return kind_ == kind; }
  [[nodiscard]] bool is_number() const { return kind_ == Kind::integer || kind_ == Kind::number || kind_ == Kind::boolean; }
  [[nodiscard]] bool is_dict() const { return kind_ == Kind::dict || kind_ == Kind::name_space; }

  [[nodiscard]] int64_t as_integer() const { return integer_; }                 // of a boolean, too
  [[nodiscard]] double as_number() const { return kind_ == Kind::number ? number_ : static_cast<double>(integer_); }
  [[nodiscard]] const std::string& as_text() const { return *text_; }           // of undefined: its name
  [[nodiscard]] bool has_name() const { return text_ != nullptr; }               // of undefined
  [[nodiscard]] const List& as_list() const { return *list_; }
  [[nodiscard]] const Dict& as_dict() const { return *dict_; }
  [[nodiscard]] Dict& members() { return *dict_; }                             // of a namespace, which is shared
  [[nodiscard]] const Function& as_function() const { return *function_; }

  [[nodiscard]] bool truth() const;
  [[nodiscard]] const Value* find(std::string_view key) const;  // in a dict
  [[nodiscard]] std::string_view type_name() const;             // "a list"

 private:
  Kind kind_ = Kind::undefined;
  int64_t integer_ = 0;
  double number_ = 0;
  std::shared_ptr<const std::string> text_;
  std::shared_ptr<const List> list_;
  std::shared_ptr<Dict> dict_;
  std::shared_ptr<const Function> function_;
};

[[nodiscard]] Value from_json(const nlohmann::ordered_json& json);

[[nodiscard]] bool equal(const Value& a, const Value& b);
// -1, 0, 1 for numbers or texts; throws std::invalid_argument for anything else.
[[nodiscard]] int compare(const Value& a, const Value& b);

[[nodiscard]] std::string to_text(const Value& value);  // Python's str()
// Python's json.dumps(ensure_ascii=False); indent < 0: on one line. Throws std::invalid_argument for what JSON cannot say.
[[nodiscard]] std::string to_json_text(const Value& value, int indent = -1);

// Where each character of UTF-8 text begins, and its end.
[[nodiscard]] std::vector<size_t> character_starts(std::string_view text);

}  // namespace switchyard::io::chat
