#include "io/chat/evaluator.h"

#include "io/chat/builtins.h"
#include "io/chat/operators.h"
#include "switchyard/error.h"

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <map>
#include <stdexcept>

namespace switchyard::io::chat {
namespace {

using Scope = std::map<std::string, Value, std::less<>>;

// What a template said with raise_exception().
struct Raised : std::runtime_error {
  using std::runtime_error::runtime_error;
};

enum class Flow { on, stop, next };

class Evaluator {
 public:
  Evaluator(const std::string& name, const nlohmann::ordered_json& variables, const RenderOptions& options)
      : name_(name), options_(options), budget_(options.max_steps, options.max_text_bytes) {
    add_functions();
    if (variables.is_object())
      for (const auto& [key, value] : variables.items()) globals_[key] = from_json(value);
  }

  std::string run(const Body& body) {
    std::string out;
    (void)run_body(body, out);
    return out;
  }

 private:
  // ---- errors: everything below may throw plain exceptions; here they get their place ----
  template <class Action>
  auto at(Position place, Action&& action) -> decltype(action()) {
    const auto where = [&] { return fmt::format("{}:{}:{}", name_, place.line, place.column); };
    try {
      return action();
    } catch (const Raised& raised) {
      fail(ErrorKind::usage, "{}: the template says: {}", where(), raised.what());
    } catch (const LimitReached& limit) {
      fail(ErrorKind::unsupported, "{}: {}", where(), limit.what());
    } catch (const UnknownName& unknown) {
      fail(ErrorKind::unsupported, "{}: {}", where(), unknown.what());
    } catch (const std::invalid_argument& wrong) {
      fail(ErrorKind::checkpoint, "{}: {}", where(), wrong.what());
    }
  }

  // ---- names ----
  void add_functions() {
    globals_["raise_exception"] = Value::function([](const Call& call) -> Value { throw Raised(to_text(argument(call, 0, "message"))); });
    globals_["strftime_now"] = Value::function([this](const Call& call) { return Value::text(time_text(to_text(argument(call, 0, "format")))); });
    globals_["namespace"] = Value::function([](const Call& call) {
      Dict members;
      for (const Value& source : call.positional)
        if (source.is_dict()) members.insert(members.end(), source.as_dict().begin(), source.as_dict().end());
      members.insert(members.end(), call.named.begin(), call.named.end());
      return Value::name_space(std::move(members));
    });
    globals_["dict"] = Value::function([](const Call& call) { return Value::dict(call.named); });
    globals_["range"] = Value::function([this](const Call& call) { return range(call, budget_); });
  }

  [[nodiscard]] std::string time_text(const std::string& format) const {
    const auto now = static_cast<std::time_t>(options_.now.value_or(std::time(nullptr)));
    std::tm parts{};
    if (options_.now) ::gmtime_r(&now, &parts);
    else ::localtime_r(&now, &parts);
    if (format.size() > 200) throw std::invalid_argument("strftime_now: a format of more than 200 bytes");
    char text[1024];
    return {text, std::strftime(text, sizeof text, format.c_str(), &parts)};
  }

  [[nodiscard]] const Value* find_name(std::string_view name) const {
    for (auto scope = locals_.rbegin(); scope != locals_.rend(); ++scope)
      if (const auto found = scope->find(name); found != scope->end()) return &found->second;
    const auto found = globals_.find(name);
    return found == globals_.end() ? nullptr : &found->second;
  }

  void assign(const std::string& name, Value value) {
    (locals_.empty() ? globals_ : locals_.back())[name] = std::move(value);
  }

  // A namespace inside a list or object would let values contain themselves.
  static Value storable(Value value) {
    if (value.is(Value::Kind::name_space)) throw std::invalid_argument("a namespace cannot be an item of another value");
    return value;
  }

  // ---- statements ----
  Flow run_body(const Body& body, std::string& out) {
    for (const Statement& statement : body)
      if (const Flow flow = run_statement(statement, out); flow != Flow::on) return flow;
    return Flow::on;
  }

  Flow run_statement(const Statement& s, std::string& out) {
    at(s.at, [&] { budget_.spend_steps(); });
    switch (s.act) {
      case Act::text: append(s, s.text, out); return Flow::on;
      case Act::print: append(s, to_text(evaluate(*s.value)), out); return Flow::on;
      case Act::branch: return run_branch(s, out);
      case Act::loop: return run_loop(s, out);
      case Act::set: run_set(s); return Flow::on;
      case Act::set_body: {
        std::string text;
        const Flow flow = run_body(s.body, text);
        at(s.at, [&] { store(s, {Value::text(std::move(text))}); });
        return flow;
      }
      case Act::macro: assign(s.text, Value::function([this, &s](const Call& call) { return call_macro(s, call); })); return Flow::on;
      case Act::stop: return Flow::stop;
      case Act::next: return Flow::next;
    }
    return Flow::on;
  }

  void append(const Statement& s, const std::string& text, std::string& out) {
    at(s.at, [&] { budget_.spend_bytes(text.size()); });
    out += text;
  }

  Flow run_branch(const Statement& s, std::string& out) {
    for (const Branch& branch : s.branches)
      if (!branch.condition || evaluate(*branch.condition).truth()) return run_body(branch.body, out);
    return Flow::on;
  }

  void run_set(const Statement& s) {
    Value value = evaluate(*s.value);
    at(s.at, [&] {
      if (s.to_attribute || s.targets.size() == 1) return store(s, {std::move(value)});
      store(s, items_of(value, budget_));
    });
  }

  void store(const Statement& s, List values) {
    if (s.to_attribute) {
      const Value* found = find_name(s.targets[0]);
      if (!found || !found->is(Value::Kind::name_space)) throw std::invalid_argument(fmt::format("'{}' is no namespace", s.targets[0]));
      Value shared = *found;
      for (auto& [key, member] : shared.members())
        if (key == s.targets[1]) {
          member = storable(std::move(values[0]));
          return;
        }
      shared.members().emplace_back(s.targets[1], storable(std::move(values[0])));
      return;
    }
    unpack(s.targets, values);
  }

  void unpack(const std::vector<std::string>& targets, List& values) {
    if (targets.size() != values.size()) throw std::invalid_argument(fmt::format("{} names for {} values", targets.size(), values.size()));
    for (size_t i = 0; i < targets.size(); ++i) assign(targets[i], std::move(values[i]));
  }

  void bind_targets(const Statement& s, const Value& item) {
    List values = s.targets.size() == 1 ? List{item} : items_of(item, budget_);
    unpack(s.targets, values);
  }

  Flow run_loop(const Statement& s, std::string& out) {
    const Value source = evaluate(*s.value);
    List items = at(s.at, [&] { return items_of(source, budget_); });
    if (s.filter) items = filtered(s, std::move(items));
    if (items.empty()) return run_body(s.otherwise, out);
    Flow flow = Flow::on;
    for (size_t i = 0; i < items.size() && flow != Flow::stop; ++i) {
      locals_.emplace_back();
      at(s.at, [&] { bind_targets(s, items[i]); });
      locals_.back()["loop"] = loop_object(items, i);
      flow = run_body(s.body, out);
      locals_.pop_back();
    }
    return Flow::on;
  }

  List filtered(const Statement& s, List items) {
    List kept;
    for (Value& item : items) {
      locals_.emplace_back();
      at(s.at, [&] { bind_targets(s, item); });
      const bool keep = evaluate(*s.filter).truth();
      locals_.pop_back();
      if (keep) kept.push_back(std::move(item));
    }
    return kept;
  }

  [[nodiscard]] static Value loop_object(const List& items, size_t i) {
    const auto n = static_cast<int64_t>(items.size()), index = static_cast<int64_t>(i);
    const auto cycle = [index](const Call& call) {
      if (call.positional.empty()) throw std::invalid_argument("loop.cycle needs values");
      return call.positional[static_cast<size_t>(index) % call.positional.size()];
    };
    return Value::dict({{"index", Value::integer(index + 1)},
                        {"index0", Value::integer(index)},
                        {"revindex", Value::integer(n - index)},
                        {"revindex0", Value::integer(n - index - 1)},
                        {"first", Value::boolean(i == 0)},
                        {"last", Value::boolean(index + 1 == n)},
                        {"length", Value::integer(n)},
                        {"previtem", i > 0 ? items[i - 1] : Value::undefined("loop.previtem")},
                        {"nextitem", index + 1 < n ? items[i + 1] : Value::undefined("loop.nextitem")},
                        {"cycle", Value::function(cycle)}});
  }

  // A macro sees the names of the whole template and its parameters, not those of loops around the call.
  Value call_macro(const Statement& macro, const Call& call) {
    if (calls_ >= options_.max_calls) throw LimitReached(fmt::format("more than {} macros inside one another", options_.max_calls));
    if (call.positional.size() > macro.parameters.size())
      throw std::invalid_argument(fmt::format("'{}' takes {} arguments", macro.text, macro.parameters.size()));
    for (const auto& named : call.named)
      if (std::none_of(macro.parameters.begin(), macro.parameters.end(), [&](const Parameter& p) { return p.name == named.first; }))
        throw std::invalid_argument(fmt::format("'{}' has no parameter '{}'", macro.text, named.first));
    std::vector<Scope> outside(1);
    std::swap(outside, locals_);
    ++calls_;
    for (size_t i = 0; i < macro.parameters.size(); ++i) {
      const Parameter& parameter = macro.parameters[i];
      Value value = argument(call, i, parameter.name);
      if (value.is(Value::Kind::undefined) && parameter.otherwise) value = evaluate(*parameter.otherwise);
      locals_.back()[parameter.name] = std::move(value);
    }
    std::string out;
    (void)run_body(macro.body, out);
    --calls_;
    std::swap(outside, locals_);
    return Value::text(std::move(out));
  }

  // ---- expressions ----
  Value evaluate(const Expression& e) {
    return at(e.at, [&] {
      budget_.spend_steps();
      return value_of(e);
    });
  }

  Value value_of(const Expression& e) {
    switch (e.op) {
      case Op::string: return Value::text(e.text);
      case Op::integer: return Value::integer(std::strtoll(e.text.c_str(), nullptr, 10));
      case Op::number: return Value::number(std::strtod(e.text.c_str(), nullptr));
      case Op::boolean: return Value::boolean(!e.text.empty());
      case Op::none: return Value::none();
      case Op::variable: {
        const Value* found = find_name(e.text);
        return found ? *found : Value::undefined(e.text);
      }
      case Op::list: case Op::tuple: return list_of(e);
      case Op::dict: return dict_of(e);
      case Op::attribute: return attribute_of(evaluate(*e.children[0]), e.text);
      case Op::item: return item_of(evaluate(*e.children[0]), evaluate(*e.children[1]));
      case Op::slice: return slice(evaluate(*e.children[0]), optional(e.children[1]), optional(e.children[2]), optional(e.children[3]), budget_);
      case Op::call: return call(e);
      case Op::filter: return filter(e);
      case Op::test: return test(e);
      case Op::negate: return negate(evaluate(*e.children[0]));
      case Op::positive: return evaluate(*e.children[0]);
      case Op::logical_not: return Value::boolean(!evaluate(*e.children[0]).truth());
      case Op::binary: return binary(e);
      case Op::conditional:
        if (evaluate(*e.children[1]).truth()) return evaluate(*e.children[0]);
        return e.children[2] ? evaluate(*e.children[2]) : Value();
    }
    return {};
  }

  Value optional(const ExpressionPtr& e) { return e ? evaluate(*e) : Value::none(); }

  Value list_of(const Expression& e) {
    List items;
    for (const auto& child : e.children) items.push_back(storable(evaluate(*child)));
    return Value::list(std::move(items));
  }

  Value dict_of(const Expression& e) {
    Dict items;
    for (size_t i = 0; i + 1 < e.children.size(); i += 2) {
      const Value key = evaluate(*e.children[i]);
      if (!key.is(Value::Kind::string)) throw std::invalid_argument(fmt::format("{} is no key; keys are texts", key.type_name()));
      Value value = storable(evaluate(*e.children[i + 1]));
      const auto found = std::find_if(items.begin(), items.end(), [&](const auto& item) { return item.first == key.as_text(); });
      if (found != items.end()) found->second = std::move(value);
      else items.emplace_back(key.as_text(), std::move(value));
    }
    return Value::dict(std::move(items));
  }

  // Methods come before members, as in Python.
  Value attribute_of(const Value& object, const std::string& name) {
    if (object.is(Value::Kind::undefined)) throw std::invalid_argument(fmt::format("'{}' is not defined, so it has no '{}'", undefined_name(object), name));
    if (auto method = find_method(object, name, budget_)) return *method;
    const Value* found = object.is_dict() ? object.find(name) : nullptr;
    return found ? *found : Value::undefined(name);
  }

  Call arguments(const Expression& e) {
    Call out;
    for (const Argument& a : e.arguments) {
      if (a.name.empty()) out.positional.push_back(evaluate(*a.value));
      else out.named.emplace_back(a.name, evaluate(*a.value));
    }
    return out;
  }

  Value call(const Expression& e) {
    const Value function = evaluate(*e.children[0]);
    if (function.is(Value::Kind::undefined)) throw UnknownName(fmt::format("the function '{}' is not known here", undefined_name(function)));
    if (!function.is(Value::Kind::function)) throw std::invalid_argument(fmt::format("{} cannot be called", function.type_name()));
    return function.as_function()(arguments(e));
  }

  Value filter(const Expression& e) {
    const Value x = evaluate(*e.children[0]);
    return apply_filter(e.text, x, arguments(e), budget_);
  }

  Value test(const Expression& e) {
    const Value x = evaluate(*e.children[0]);
    return Value::boolean(apply_test(e.text, x, arguments(e)));
  }

  Value binary(const Expression& e) {
    Value left = evaluate(*e.children[0]);
    if (e.text == "and") return left.truth() ? evaluate(*e.children[1]) : left;
    if (e.text == "or") return left.truth() ? left : evaluate(*e.children[1]);
    return combine(e.text, left, evaluate(*e.children[1]), budget_);
  }

  const std::string& name_;
  const RenderOptions& options_;
  Budget budget_;
  Scope globals_;
  std::vector<Scope> locals_;  // of loops and of a macro, the innermost last
  int calls_ = 0;
};

}  // namespace

std::string evaluate(const Body& body, const std::string& name, const nlohmann::ordered_json& variables, const RenderOptions& options) {
  return Evaluator(name, variables, options).run(body);
}

}  // namespace switchyard::io::chat
