#include "io/chat/value.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace switchyard::io::chat {

Value Value::undefined(std::string name) {
  Value out;
  out.text_ = std::make_shared<const std::string>(std::move(name));
  return out;
}
Value Value::none() {
  Value out;
  out.kind_ = Kind::none;
  return out;
}
Value Value::boolean(bool value) {
  Value out;
  out.kind_ = Kind::boolean;
  out.integer_ = value;
  return out;
}
Value Value::integer(int64_t value) {
  Value out;
  out.kind_ = Kind::integer;
  out.integer_ = value;
  return out;
}
Value Value::number(double value) {
  Value out;
  out.kind_ = Kind::number;
  out.number_ = value;
  return out;
}
Value Value::text(std::string value) {
  Value out;
  out.kind_ = Kind::string;
  out.text_ = std::make_shared<const std::string>(std::move(value));
  return out;
}
Value Value::list(List items) {
  Value out;
  out.kind_ = Kind::list;
  out.list_ = std::make_shared<const List>(std::move(items));
  return out;
}
Value Value::dict(Dict items) {
  Value out;
  out.kind_ = Kind::dict;
  out.dict_ = std::make_shared<Dict>(std::move(items));
  return out;
}
Value Value::name_space(Dict items) {
  Value out = dict(std::move(items));
  out.kind_ = Kind::name_space;
  return out;
}
Value Value::function(Function function) {
  Value out;
  out.kind_ = Kind::function;
  out.function_ = std::make_shared<const Function>(std::move(function));
  return out;
}

bool Value::truth() const {
  switch (kind_) {
    case Kind::undefined: case Kind::none: return false;
    case Kind::boolean: case Kind::integer: return integer_ != 0;
    case Kind::number: return number_ != 0;
    case Kind::string: return !text_->empty();
    case Kind::list: return !list_->empty();
    case Kind::dict: return !dict_->empty();
    default: return true;
  }
}

const Value* Value::find(std::string_view key) const {
  for (const auto& [name, value] : *dict_)
    if (name == key) return &value;
  return nullptr;
}

std::string_view Value::type_name() const {
  constexpr std::string_view names[] = {"undefined", "none",   "a truth value", "an integer",  "a number",
                                        "a text",    "a list", "an object",     "a namespace", "a function"};
  return names[static_cast<size_t>(kind_)];
}

Value from_json(const nlohmann::ordered_json& json) {
  switch (json.type()) {
    case nlohmann::ordered_json::value_t::boolean: return Value::boolean(json.get<bool>());
    case nlohmann::ordered_json::value_t::number_unsigned:
      if (json.get<uint64_t>() > INT64_MAX) return Value::number(json.get<double>());
      return Value::integer(json.get<int64_t>());
    case nlohmann::ordered_json::value_t::number_integer: return Value::integer(json.get<int64_t>());
    case nlohmann::ordered_json::value_t::number_float: return Value::number(json.get<double>());
    case nlohmann::ordered_json::value_t::string: return Value::text(json.get<std::string>());
    case nlohmann::ordered_json::value_t::array: {
      List items;
      for (const auto& item : json) items.push_back(from_json(item));
      return Value::list(std::move(items));
    }
    case nlohmann::ordered_json::value_t::object: {
      Dict items;
      for (const auto& [key, item] : json.items()) items.emplace_back(key, from_json(item));
      return Value::dict(std::move(items));
    }
    default: return Value::none();
  }
}

bool equal(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number())
    return a.is(Value::Kind::number) || b.is(Value::Kind::number) ? a.as_number() == b.as_number() : a.as_integer() == b.as_integer();
  if (a.is_dict() && b.is_dict()) {
    return a.as_dict().size() == b.as_dict().size() && std::all_of(a.as_dict().begin(), a.as_dict().end(), [&](const auto& item) {
             const Value* other = b.find(item.first);
             return other && equal(item.second, *other);
           });
  }
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Value::Kind::string: return a.as_text() == b.as_text();
    case Value::Kind::list: return std::equal(a.as_list().begin(), a.as_list().end(), b.as_list().begin(), b.as_list().end(), equal);
    case Value::Kind::function: return &a.as_function() == &b.as_function();
    default: return true;
  }
}

int compare(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    const double x = a.as_number(), y = b.as_number();
    return x < y ? -1 : x > y ? 1 : 0;
  }
  if (a.is(Value::Kind::string) && b.is(Value::Kind::string)) {
    const int order = a.as_text().compare(b.as_text());  // bytes of UTF-8 are in the order of characters
    return order < 0 ? -1 : order > 0 ? 1 : 0;
  }
  throw std::invalid_argument(fmt::format("{} and {} have no order", a.type_name(), b.type_name()));
}

namespace {

std::string number_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::string out = fmt::format("{}", value);
  if (out.find_first_of(".e") == out.npos) out += ".0";
  return out;
}

std::string python_quoted(const std::string& text) {
  const char quote = text.find('\'') != text.npos && text.find('"') == text.npos ? '"' : '\'';
  std::string out(1, quote);
  for (const char c : text) {
    if (c == quote || c == '\\') out += '\\', out += c;
    else if (c == '\n') out += "\\n";
    else if (c == '\t') out += "\\t";
    else if (c == '\r') out += "\\r";
    else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    else out += c;
  }
  return out + quote;
}

std::string repr(const Value& value) {
  if (value.is(Value::Kind::string)) return python_quoted(value.as_text());
  return value.is(Value::Kind::undefined) ? "Undefined" : to_text(value);
}

}  // namespace

std::string to_text(const Value& value) {
  switch (value.kind()) {
    case Value::Kind::undefined: return "";
    case Value::Kind::none: return "None";
    case Value::Kind::boolean: return value.as_integer() ? "True" : "False";
    case Value::Kind::integer: return std::to_string(value.as_integer());
    case Value::Kind::number: return number_text(value.as_number());
    case Value::Kind::string: return value.as_text();
    case Value::Kind::list: {
      std::string out;
      for (const Value& item : value.as_list()) out += (out.empty() ? "" : ", ") + repr(item);
      return "[" + out + "]";
    }
    case Value::Kind::dict: case Value::Kind::name_space: {
      std::string out;
      for (const auto& [key, item] : value.as_dict()) out += fmt::format("{}{}: {}", out.empty() ? "" : ", ", python_quoted(key), repr(item));
      return "{" + out + "}";
    }
    case Value::Kind::function: return "<function>";
  }
  return "";
}

namespace {

std::string json_quoted(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

void put_json(std::string& out, const Value& value, int indent, int level) {
  const auto line = [&](int depth) {
    if (indent >= 0) out += "\n" + std::string(static_cast<size_t>(indent) * static_cast<size_t>(depth), ' ');
  };
  const auto put_items = [&](char open, char close, size_t n, const auto& put_item) {
    out += open;
    for (size_t i = 0; i < n; ++i) {
      if (i > 0) out += indent >= 0 ? "," : ", ";
      line(level + 1);
      put_item(i);
    }
    if (n > 0) line(level);
    out += close;
  };
  switch (value.kind()) {
    case Value::Kind::none: out += "null"; return;
    case Value::Kind::boolean: out += value.as_integer() ? "true" : "false"; return;
    case Value::Kind::string: out += json_quoted(value.as_text()); return;
    case Value::Kind::integer: case Value::Kind::number: {
      const bool finite = value.is(Value::Kind::integer) || std::isfinite(value.as_number());
      out += finite ? to_text(value) : std::isnan(value.as_number()) ? "NaN" : value.as_number() < 0 ? "-Infinity" : "Infinity";
      return;
    }
    case Value::Kind::list:
      return put_items('[', ']', value.as_list().size(), [&](size_t i) { put_json(out, value.as_list()[i], indent, level + 1); });
    case Value::Kind::dict:
      return put_items('{', '}', value.as_dict().size(), [&](size_t i) {
        out += json_quoted(value.as_dict()[i].first) + ": ";
        put_json(out, value.as_dict()[i].second, indent, level + 1);
      });
    default: throw std::invalid_argument(fmt::format("{} is nothing that JSON can say", value.type_name()));
  }
}

}  // namespace

std::string to_json_text(const Value& value, int indent) {
  std::string out;
  put_json(out, value, indent, 0);
  return out;
}

std::vector<size_t> character_starts(std::string_view text) {
  std::vector<size_t> starts;
  for (size_t i = 0; i < text.size(); ++i)
    if ((static_cast<unsigned char>(text[i]) & 0xC0U) != 0x80U) starts.push_back(i);
  starts.push_back(text.size());
  return starts;
}

}  // namespace switchyard::io::chat
