#include "io/chat/builtins.h"
#include "io/chat/text_methods.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <stdexcept>

namespace switchyard::io::chat {
namespace {

using Kind = Value::Kind;
using Filter = Value (*)(const Value& x, const Call& call, Budget& budget);

Value made(std::string text, Budget& budget) {
  budget.spend_bytes(text.size());
  return Value::text(std::move(text));
}

// "a.b" of an item.
Value attribute_of(Value item, const std::string& path) {
  for (size_t at = 0; at <= path.size();) {
    const size_t dot = std::min(path.find('.', at), path.size());
    const std::string name = path.substr(at, dot - at);
    const Value* found = item.is_dict() ? item.find(name) : nullptr;
    item = found ? *found : Value();
    at = dot + 1;
  }
  return item;
}

const std::string& need_text(const Value& x, std::string_view what) {
  if (!x.is(Kind::string)) throw std::invalid_argument(fmt::format("{} needs a text, found {}", what, x.type_name()));
  return x.as_text();
}

Value join(const Value& x, const Call& call, Budget& budget) {
  const Value separator = argument(call, 0, "d"), attribute = argument(call, 1, "attribute");
  const std::string between = to_text(separator);
  std::string out;
  bool first = true;
  for (const Value& item : items_of(x, budget)) {
    std::string part = (first ? "" : between) + to_text(attribute.is(Kind::string) ? attribute_of(item, attribute.as_text()) : item);
    budget.spend_bytes(part.size());
    out += part;
    first = false;
  }
  return Value::text(std::move(out));
}

Value or_default(const Value& x, const Call& call, Budget&) {
  const Value otherwise = argument(call, 0, "default_value");
  const bool also_false = argument(call, 1, "boolean").truth();
  if (x.is(Kind::undefined) || (also_false && !x.truth())) return otherwise.is(Kind::undefined) ? Value::text("") : otherwise;
  return x;
}

// select, reject, selectattr, rejectattr: the items for which a test says `keep`; without a test: their truth.
Value choose(const Value& x, const Call& call, Budget& budget, bool by_attribute, bool keep) {
  List out;
  const size_t first = by_attribute ? 1 : 0;
  const std::string attribute = by_attribute ? need_text(argument(call, 0, "attribute"), "the attribute") : "";
  const std::string test = call.positional.size() > first ? need_text(call.positional[first], "the name of a test") : "";
  Call rest;
  for (size_t i = first + 1; i < call.positional.size(); ++i) rest.positional.push_back(call.positional[i]);
  for (const Value& item : items_of(x, budget)) {
    const Value seen = by_attribute ? attribute_of(item, attribute) : item;
    if ((test.empty() ? seen.truth() : apply_test(test, seen, rest)) == keep) out.push_back(item);
  }
  return Value::list(std::move(out));
}

Value map_items(const Value& x, const Call& call, Budget& budget) {
  List out;
  const Value attribute = argument(call, SIZE_MAX, "attribute"), otherwise = argument(call, SIZE_MAX, "default");
  Call rest;
  for (size_t i = 1; i < call.positional.size(); ++i) rest.positional.push_back(call.positional[i]);
  for (const Value& item : items_of(x, budget)) {
    if (attribute.is(Kind::string)) {
      const Value found = attribute_of(item, attribute.as_text());
      out.push_back(found.is(Kind::undefined) ? otherwise : found);
    } else {
      out.push_back(apply_filter(need_text(argument(call, 0, ""), "map"), item, rest, budget));
    }
  }
  return Value::list(std::move(out));
}

Value items(const Value& x, const Call&, Budget& budget) {
  List out;
  if (x.is(Kind::undefined)) return Value::list({});
  if (!x.is_dict()) throw std::invalid_argument(fmt::format("items of {}", x.type_name()));
  budget.spend_steps(static_cast<int64_t>(x.as_dict().size()));
  for (const auto& [key, value] : x.as_dict()) out.push_back(Value::list({Value::text(key), value}));
  return Value::list(std::move(out));
}

Value sorted(const Value& x, const Call& call, Budget& budget) {
  List out = items_of(x, budget);
  const Value attribute = argument(call, 2, "attribute"), reverse = argument(call, 0, "reverse");
  const bool with_case = argument(call, 1, "case_sensitive").truth();
  const auto key = [&](const Value& item) {
    Value seen = attribute.is(Kind::string) ? attribute_of(item, attribute.as_text()) : item;
    return seen.is(Kind::string) && !with_case ? Value::text(change_case(seen.as_text(), false)) : seen;
  };
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& item : out) keyed.emplace_back(key(item), item);
  for (const auto& item : keyed) (void)compare(item.first, keyed.front().first);  // throws here, where it is safe
  const bool falling = reverse.truth();
  std::stable_sort(keyed.begin(), keyed.end(),
                   [&](const auto& a, const auto& b) { return falling ? compare(b.first, a.first) < 0 : compare(a.first, b.first) < 0; });
  for (size_t i = 0; i < out.size(); ++i) out[i] = keyed[i].second;
  return Value::list(std::move(out));
}

Value dict_sorted(const Value& x, const Call&, Budget& budget) {
  if (!x.is_dict()) throw std::invalid_argument(fmt::format("dictsort of {}", x.type_name()));
  Dict members = x.as_dict();
  budget.spend_steps(static_cast<int64_t>(members.size()));
  std::stable_sort(members.begin(), members.end(), [](const auto& a, const auto& b) { return change_case(a.first, false) < change_case(b.first, false); });
  return items(Value::dict(std::move(members)), {}, budget);
}

Value reversed(const Value& x, const Call&, Budget& budget) {
  List out = items_of(x, budget);
  std::reverse(out.begin(), out.end());
  if (!x.is(Kind::string)) return Value::list(std::move(out));
  return join(Value::list(std::move(out)), {}, budget);
}

Value unique(const Value& x, const Call&, Budget& budget) {
  List out;
  for (const Value& item : items_of(x, budget)) {
    budget.spend_steps(static_cast<int64_t>(out.size()));
    if (std::none_of(out.begin(), out.end(), [&](const Value& other) { return equal(other, item); })) out.push_back(item);
  }
  return Value::list(std::move(out));
}

Value to_integer(const Value& x, const Call& call, Budget&) {
  const Value otherwise = argument(call, 0, "default");
  const Value failed = otherwise.is(Kind::undefined) ? Value::integer(0) : otherwise;
  if (x.is(Kind::string)) {
    const std::string text = strip(x.as_text(), " \t\n\r", true, true);
    char* end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    if (text.empty() || *end || !(std::abs(value) < 9e18)) return failed;
    return Value::integer(static_cast<int64_t>(value));
  }
  if (!x.is_number() || !(std::abs(x.as_number()) < 9e18)) return failed;
  return Value::integer(x.is(Kind::number) ? static_cast<int64_t>(x.as_number()) : x.as_integer());
}

Value to_number(const Value& x, const Call& call, Budget&) {
  const Value otherwise = argument(call, 0, "default");
  if (x.is_number()) return Value::number(x.as_number());
  char* end = nullptr;
  const double value = x.is(Kind::string) ? std::strtod(x.as_text().c_str(), &end) : 0;
  if (x.is(Kind::string) && !x.as_text().empty() && !*end) return Value::number(value);
  return otherwise.is(Kind::undefined) ? Value::number(0) : otherwise;
}

Value rounded(const Value& x, const Call& call, Budget&) {
  if (!x.is_number()) throw std::invalid_argument(fmt::format("round of {}", x.type_name()));
  const Value digits = argument(call, 0, "precision"), method = argument(call, 1, "method");
  const double scale = std::pow(10.0, digits.is(Kind::integer) ? static_cast<double>(std::clamp<int64_t>(digits.as_integer(), -300, 300)) : 0.0);
  const double scaled = x.as_number() * scale;
  const std::string how = method.is(Kind::string) ? method.as_text() : "common";
  return Value::number((how == "ceil" ? std::ceil(scaled) : how == "floor" ? std::floor(scaled) : std::nearbyint(scaled)) / scale);
}

Value indent(const Value& x, const Call& call, Budget& budget) {
  const Value width = argument(call, 0, "width"), first = argument(call, 1, "first"), blank = argument(call, 2, "blank");
  const std::string space = width.is(Kind::string)
                                ? width.as_text()
                                : std::string(static_cast<size_t>(std::clamp<int64_t>(width.is(Kind::integer) ? width.as_integer() : 4, 0, 1000)), ' ');
  const std::string text = to_text(x);
  std::string out;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string line = text.substr(at, end - at);
    if (at > 0) out += '\n';
    if ((at > 0 || first.truth()) && (!line.empty() || blank.truth())) out += space;
    out += line;
    at = end + 1;
    budget.spend_bytes(line.size() + space.size());
  }
  return Value::text(std::move(out));
}

Value escape(const Value& x, const Call&, Budget& budget) {
  std::string out;
  for (const char c : to_text(x)) {
    if (c == '&') out += "&amp;";
    else if (c == '<') out += "&lt;";
    else if (c == '>') out += "&gt;";
    else if (c == '"') out += "&#34;";
    else if (c == '\'') out += "&#39;";
    else out += c;
  }
  return made(std::move(out), budget);
}

Value tojson(const Value& x, const Call& call, Budget& budget) {
  const Value width = argument(call, SIZE_MAX, "indent");
  const Value by_position = argument(call, 0, "");  // as Jinja's own; the Hugging Face library takes names only
  const Value& chosen = width.is(Kind::undefined) ? by_position : width;
  return made(to_json_text(x, chosen.is(Kind::integer) ? static_cast<int>(std::clamp<int64_t>(chosen.as_integer(), 0, 100)) : -1), budget);
}

Value extreme(const Value& x, Budget& budget, int sign) {
  const List all = items_of(x, budget);
  if (all.empty()) return {};
  Value best = all.front();
  for (const Value& item : all)
    if (sign * compare(item, best) > 0) best = item;
  return best;
}

Value sum(const Value& x, const Call& call, Budget& budget) {
  const Value attribute = argument(call, 0, "attribute");
  double total = 0;
  int64_t exact = 0;
  bool integers = true;
  for (const Value& item : items_of(x, budget)) {
    const Value seen = attribute.is(Kind::string) ? attribute_of(item, attribute.as_text()) : item;
    if (!seen.is_number()) throw std::invalid_argument(fmt::format("the sum of {}", seen.type_name()));
    integers &= !seen.is(Kind::number);
    total += seen.as_number();
    if (integers && __builtin_add_overflow(exact, seen.as_integer(), &exact)) throw std::invalid_argument("this integer becomes too large");
  }
  return integers ? Value::integer(exact) : Value::number(total);
}

const std::map<std::string, Filter, std::less<>>& filters() {
  static const std::map<std::string, Filter, std::less<>> all = {
      {"trim",
       [](const Value& x, const Call& c, Budget& b) {
         const Value characters = argument(c, 0, "chars");
         return made(strip(to_text(x), characters.is(Kind::string) ? characters.as_text() : kWhiteSpace, true, true), b);
       }},
      {"join", join},
      {"length", [](const Value& x, const Call&, Budget&) { return Value::integer(length_of(x)); }},
      {"count", [](const Value& x, const Call&, Budget&) { return Value::integer(length_of(x)); }},
      {"tojson", tojson},
      {"upper", [](const Value& x, const Call&, Budget& b) { return made(change_case(to_text(x), true), b); }},
      {"lower", [](const Value& x, const Call&, Budget& b) { return made(change_case(to_text(x), false), b); }},
      {"title", [](const Value& x, const Call&, Budget& b) { return made(title_case(to_text(x)), b); }},
      {"capitalize", [](const Value& x, const Call&, Budget& b) { return made(capitalized(to_text(x)), b); }},
      {"replace",
       [](const Value& x, const Call& c, Budget& b) {
         const Value times = argument(c, 2, "count");
         return made(
             replace_all(to_text(x), to_text(argument(c, 0, "old")), to_text(argument(c, 1, "new")), times.is(Kind::integer) ? times.as_integer() : -1, b), b);
       }},
      {"default", or_default},
      {"d", or_default},
      {"select", [](const Value& x, const Call& c, Budget& b) { return choose(x, c, b, false, true); }},
      {"reject", [](const Value& x, const Call& c, Budget& b) { return choose(x, c, b, false, false); }},
      {"selectattr", [](const Value& x, const Call& c, Budget& b) { return choose(x, c, b, true, true); }},
      {"rejectattr", [](const Value& x, const Call& c, Budget& b) { return choose(x, c, b, true, false); }},
      {"map", map_items},
      {"items", items},
      {"list", [](const Value& x, const Call&, Budget& b) { return Value::list(items_of(x, b)); }},
      {"first",
       [](const Value& x, const Call&, Budget& b) {
         const List all = items_of(x, b);
         return all.empty() ? Value() : all.front();
       }},
      {"last",
       [](const Value& x, const Call&, Budget& b) {
         const List all = items_of(x, b);
         return all.empty() ? Value() : all.back();
       }},
      {"int", to_integer},
      {"float", to_number},
      {"string", [](const Value& x, const Call&, Budget& b) { return made(to_text(x), b); }},
      {"safe", [](const Value& x, const Call&, Budget&) { return x; }},
      {"abs",
       [](const Value& x, const Call&, Budget&) {
         if (!x.is_number() || (!x.is(Kind::number) && x.as_integer() == INT64_MIN)) throw std::invalid_argument(fmt::format("abs of {}", x.type_name()));
         return x.is(Kind::number) ? Value::number(std::abs(x.as_number())) : Value::integer(std::abs(x.as_integer()));
       }},
      {"round", rounded},
      {"reverse", reversed},
      {"sort", sorted},
      {"dictsort", dict_sorted},
      {"unique", unique},
      {"indent", indent},
      {"escape", escape},
      {"e", escape},
      {"min", [](const Value& x, const Call&, Budget& b) { return extreme(x, b, -1); }},
      {"max", [](const Value& x, const Call&, Budget& b) { return extreme(x, b, 1); }},
      {"sum", sum},
  };
  return all;
}

}  // namespace

Value apply_filter(const std::string& name, const Value& x, const Call& call, Budget& budget) {
  const auto found = filters().find(name);
  if (found == filters().end()) throw UnknownName(fmt::format("the filter '{}' is not known here", name));
  return found->second(x, call, budget);
}

}  // namespace switchyard::io::chat
