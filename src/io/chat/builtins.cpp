#include "io/chat/builtins.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

namespace switchyard::io::chat {

void Budget::spend_steps(int64_t n) {
  if (n > steps_) throw LimitReached("the template takes too many steps");
  steps_ -= n;
}

void Budget::spend_bytes(size_t n) {
  if (n > static_cast<size_t>(bytes_)) throw LimitReached("the template makes too much text");
  bytes_ -= static_cast<int64_t>(n);
}

Value argument(const Call& call, size_t position, std::string_view name) {
  if (position < call.positional.size()) return call.positional[position];
  for (const auto& [key, value] : call.named)
    if (key == name) return value;
  return {};
}

List items_of(const Value& x, Budget& budget) {
  List out;
  switch (x.kind()) {
    case Value::Kind::undefined: break;
    case Value::Kind::list: out = x.as_list(); break;
    case Value::Kind::dict: case Value::Kind::name_space:
      for (const auto& item : x.as_dict()) out.push_back(Value::text(item.first));
      break;
    case Value::Kind::string: {
      const auto starts = character_starts(x.as_text());
      for (size_t i = 0; i + 1 < starts.size(); ++i) out.push_back(Value::text(x.as_text().substr(starts[i], starts[i + 1] - starts[i])));
      break;
    }
    default: throw std::invalid_argument(fmt::format("{} is nothing to go through", x.type_name()));
  }
  budget.spend_steps(static_cast<int64_t>(out.size()));
  return out;
}

bool contains(const Value& container, const Value& item) {
  if (container.is(Value::Kind::string)) {
    if (!item.is(Value::Kind::string)) throw std::invalid_argument(fmt::format("'in' looks for {} in a text", item.type_name()));
    return container.as_text().find(item.as_text()) != std::string::npos;
  }
  if (container.is_dict()) return item.is(Value::Kind::string) && container.find(item.as_text());
  if (container.is(Value::Kind::undefined)) return false;
  if (!container.is(Value::Kind::list)) throw std::invalid_argument(fmt::format("'in' looks into {}", container.type_name()));
  return std::any_of(container.as_list().begin(), container.as_list().end(), [&](const Value& other) { return equal(other, item); });
}

int64_t length_of(const Value& x) {
  switch (x.kind()) {
    case Value::Kind::undefined: return 0;
    case Value::Kind::string: return static_cast<int64_t>(character_starts(x.as_text()).size()) - 1;
    case Value::Kind::list: return static_cast<int64_t>(x.as_list().size());
    case Value::Kind::dict: case Value::Kind::name_space: return static_cast<int64_t>(x.as_dict().size());
    default: throw std::invalid_argument(fmt::format("{} has no length", x.type_name()));
  }
}

std::string strip(std::string_view text, std::string_view characters, bool left, bool right) {
  while (left && !text.empty() && characters.find(text.front()) != characters.npos) text.remove_prefix(1);
  while (right && !text.empty() && characters.find(text.back()) != characters.npos) text.remove_suffix(1);
  return std::string(text);
}

namespace {

// Called values must be there; `other` and `by` as the tests of Jinja name them.
bool is_in_order(const std::string& name, const Value& x, const Value& other) {
  if (name == "lt" || name == "lessthan" || name == "<") return compare(x, other) < 0;
  if (name == "le" || name == "<=") return compare(x, other) <= 0;
  if (name == "gt" || name == "greaterthan" || name == ">") return compare(x, other) > 0;
  return compare(x, other) >= 0;
}

bool is_case(const std::string& text, bool upper) {
  bool letters = false;
  for (const char c : text) {
    if ((c >= 'a' && c <= 'z' && upper) || (c >= 'A' && c <= 'Z' && !upper)) return false;
    letters |= (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  }
  return letters;
}

int64_t whole(const Value& x) {
  if (!x.is(Value::Kind::integer)) throw std::invalid_argument(fmt::format("expected an integer, found {}", x.type_name()));
  return x.as_integer();
}

}  // namespace

bool apply_test(const std::string& name, const Value& x, const Call& call) {
  using Kind = Value::Kind;
  const Value other = argument(call, 0, "other");
  if (name == "defined") return !x.is(Kind::undefined);
  if (name == "undefined") return x.is(Kind::undefined);
  if (name == "none") return x.is(Kind::none);
  if (name == "string") return x.is(Kind::string);
  if (name == "boolean") return x.is(Kind::boolean);
  if (name == "integer") return x.is(Kind::integer);
  if (name == "float") return x.is(Kind::number);
  if (name == "number") return x.is_number();
  if (name == "true") return x.is(Kind::boolean) && x.as_integer();
  if (name == "false") return x.is(Kind::boolean) && !x.as_integer();
  if (name == "mapping") return x.is_dict();
  if (name == "sequence" || name == "iterable") return x.is(Kind::list) || x.is_dict() || x.is(Kind::string);
  if (name == "callable") return x.is(Kind::function);
  if (name == "odd") return whole(x) % 2 != 0;
  if (name == "even") return whole(x) % 2 == 0;
  if (name == "divisibleby") {
    if (whole(other) == 0) throw std::invalid_argument("division by zero");
    return whole(other) == -1 || whole(x) % whole(other) == 0;
  }
  if (name == "in") return contains(other, x);
  if (name == "eq" || name == "equalto" || name == "==" || name == "sameas") return equal(x, other);
  if (name == "ne" || name == "!=") return !equal(x, other);
  if (name == "lower") return is_case(to_text(x), false);
  if (name == "upper") return is_case(to_text(x), true);
  for (const char* order : {"lt", "lessthan", "le", "gt", "greaterthan", "ge"})
    if (name == order) return is_in_order(name, x, other);
  throw UnknownName(fmt::format("the test '{}' is not known here", name));
}

}  // namespace switchyard::io::chat
