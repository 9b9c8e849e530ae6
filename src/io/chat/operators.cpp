#include "io/chat/operators.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace switchyard::io::chat {
namespace {

using Kind = Value::Kind;

[[noreturn]] void too_large() { throw std::invalid_argument("this integer becomes too large"); }

Value integers(const std::string& op, int64_t a, int64_t b) {
  int64_t out = 0;
  if (op == "+") return __builtin_add_overflow(a, b, &out) ? (too_large(), Value()) : Value::integer(out);
  if (op == "-") return __builtin_sub_overflow(a, b, &out) ? (too_large(), Value()) : Value::integer(out);
  if (op == "*") return __builtin_mul_overflow(a, b, &out) ? (too_large(), Value()) : Value::integer(out);
  if (b == 0) throw std::invalid_argument("division by zero");
  if (a == INT64_MIN && b == -1) too_large();
  const int64_t rest = a % b, correction = rest != 0 && (rest < 0) != (b < 0);  // towards minus infinity, as Python divides
  return Value::integer(op == "//" ? a / b - correction : rest + (correction ? b : 0));
}

Value power(const Value& a, const Value& b) {
  if (a.is(Kind::number) || b.is(Kind::number) || b.as_integer() < 0) return Value::number(std::pow(a.as_number(), b.as_number()));
  int64_t out = 1;
  const int64_t base = a.as_integer();
  if (base == 0 || base == 1) return Value::integer(b.as_integer() == 0 ? 1 : base);
  if (base == -1) return Value::integer(b.as_integer() % 2 ? -1 : 1);
  for (int64_t i = 0; i < b.as_integer(); ++i)  // at most 63 rounds, then it is too large
    if (__builtin_mul_overflow(out, base, &out)) too_large();
  return Value::integer(out);
}

Value numbers(const std::string& op, const Value& a, const Value& b) {
  if (op == "**") return power(a, b);
  const double x = a.as_number(), y = b.as_number();
  if (op == "/") {
    if (y == 0) throw std::invalid_argument("division by zero");
    return Value::number(x / y);
  }
  if (!a.is(Kind::number) && !b.is(Kind::number)) return integers(op, a.as_integer(), b.as_integer());
  if (op == "+") return Value::number(x + y);
  if (op == "-") return Value::number(x - y);
  if (op == "*") return Value::number(x * y);
  if (y == 0) throw std::invalid_argument("division by zero");
  return Value::number(op == "//" ? std::floor(x / y) : x - y * std::floor(x / y));
}

Value joined(const Value& a, const Value& b, Budget& budget) {
  std::string out = to_text(a) + to_text(b);
  budget.spend_bytes(out.size());
  return Value::text(std::move(out));
}

std::string described(const Value& x) {
  return x.is(Kind::undefined) ? fmt::format("'{}', which is not defined,", undefined_name(x)) : std::string(x.type_name());
}

}  // namespace

std::string undefined_name(const Value& x) { return x.has_name() ? x.as_text() : "a value"; }

Value combine(const std::string& op, const Value& a, const Value& b, Budget& budget) {
  if (op == "==") return Value::boolean(equal(a, b));
  if (op == "!=") return Value::boolean(!equal(a, b));
  if (op == "<") return Value::boolean(compare(a, b) < 0);
  if (op == "<=") return Value::boolean(compare(a, b) <= 0);
  if (op == ">") return Value::boolean(compare(a, b) > 0);
  if (op == ">=") return Value::boolean(compare(a, b) >= 0);
  if (op == "in") return Value::boolean(contains(b, a));
  if (op == "not in") return Value::boolean(!contains(b, a));
  if (op == "~") return joined(a, b, budget);
  if (a.is_number() && b.is_number()) return numbers(op, a, b);
  if (op == "+" && a.is(Kind::string) && b.is(Kind::string)) return joined(a, b, budget);
  if (op == "+" && a.is(Kind::list) && b.is(Kind::list)) {
    List out = a.as_list();
    out.insert(out.end(), b.as_list().begin(), b.as_list().end());
    budget.spend_steps(static_cast<int64_t>(out.size()));
    return Value::list(std::move(out));
  }
  if (op == "*" && a.is(Kind::string) && b.is(Kind::integer)) {
    const auto times = static_cast<size_t>(std::clamp<int64_t>(b.as_integer(), 0, 1'000'000'000));
    const std::string& text = a.as_text();
    if (text.empty()) return a;
    budget.spend_bytes(text.size() * times);
    std::string out;
    for (size_t i = 0; i < times; ++i) out += text;
    return Value::text(std::move(out));
  }
  throw std::invalid_argument(fmt::format("'{}' of {} and {}", op, described(a), described(b)));
}

Value negate(const Value& x) {
  if (!x.is_number()) throw std::invalid_argument(fmt::format("'-' of {}", described(x)));
  if (x.is(Kind::number)) return Value::number(-x.as_number());
  return integers("-", 0, x.as_integer());
}

Value item_of(const Value& x, const Value& index) {
  if (x.is(Kind::undefined)) throw std::invalid_argument(fmt::format("{} has no items", described(x)));
  if (x.is_dict()) {
    const Value* found = index.is(Kind::string) ? x.find(index.as_text()) : nullptr;
    return found ? *found : Value::undefined(to_text(index));
  }
  if (!index.is(Kind::integer)) return Value::undefined(to_text(index));
  if (x.is(Kind::list)) {
    const auto n = static_cast<int64_t>(x.as_list().size());
    const int64_t i = index.as_integer() < 0 ? index.as_integer() + n : index.as_integer();
    return i >= 0 && i < n ? x.as_list()[static_cast<size_t>(i)] : Value::undefined(to_text(index));
  }
  if (x.is(Kind::string)) {
    const auto starts = character_starts(x.as_text());
    const auto n = static_cast<int64_t>(starts.size()) - 1;
    const int64_t i = index.as_integer() < 0 ? index.as_integer() + n : index.as_integer();
    if (i < 0 || i >= n) return Value::undefined(to_text(index));
    const auto at = static_cast<size_t>(i);
    return Value::text(x.as_text().substr(starts[at], starts[at + 1] - starts[at]));
  }
  return Value::undefined(to_text(index));
}

Value slice(const Value& x, const Value& start, const Value& stop, const Value& step, Budget& budget) {
  if (!x.is(Kind::list) && !x.is(Kind::string)) throw std::invalid_argument(fmt::format("a slice of {}", described(x)));
  for (const Value* bound : {&start, &stop, &step})
    if (!bound->is(Kind::none) && !bound->is(Kind::integer)) throw std::invalid_argument(fmt::format("a slice by {}", described(*bound)));
  const List all = items_of(x, budget);
  const auto n = static_cast<int64_t>(all.size());
  const int64_t by = std::clamp<int64_t>(step.is(Kind::none) ? 1 : step.as_integer(), -n - 1, n + 1);
  if (by == 0) throw std::invalid_argument("a slice by steps of 0");
  const auto bound = [&](const Value& given, int64_t otherwise) {
    if (given.is(Kind::none)) return otherwise;
    const int64_t value = std::clamp<int64_t>(given.as_integer(), -n - 1, n + 1);
    return std::clamp<int64_t>(value < 0 ? value + n : value, by > 0 ? 0 : -1, by > 0 ? n : n - 1);
  };
  List out;
  const int64_t end = bound(stop, by > 0 ? n : -1);
  for (int64_t i = bound(start, by > 0 ? 0 : n - 1); by > 0 ? i < end : i > end; i += by) out.push_back(all[static_cast<size_t>(i)]);
  if (x.is(Kind::list)) return Value::list(std::move(out));
  std::string text;
  for (const Value& character : out) text += character.as_text();
  budget.spend_bytes(text.size());
  return Value::text(std::move(text));
}

Value range(const Call& call, Budget& budget) {
  int64_t bounds[3] = {0, 0, 1};
  const size_t n = call.positional.size();
  if (n < 1 || n > 3) throw std::invalid_argument("range takes one to three integers");
  for (size_t i = 0; i < n; ++i) {
    if (!call.positional[i].is(Kind::integer)) throw std::invalid_argument(fmt::format("range of {}", call.positional[i].type_name()));
    bounds[n == 1 ? 1 : i] = call.positional[i].as_integer();
  }
  const auto [first, end, by] = bounds;
  if (by == 0) throw std::invalid_argument("range by steps of 0");
  List out;
  for (int64_t i = first; by > 0 ? i < end : i > end;) {
    budget.spend_steps();
    out.push_back(Value::integer(i));
    if (__builtin_add_overflow(i, by, &i)) break;
  }
  return Value::list(std::move(out));
}

}  // namespace switchyard::io::chat
