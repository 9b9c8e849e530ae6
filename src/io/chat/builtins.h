// Filters, tests, methods and functions that templates may call. They throw std::invalid_argument that says what is wrong; the
// evaluator adds the place.
#pragma once

#include "io/chat/value.h"

#include <optional>

namespace switchyard::io::chat {

// What is left of the limits of one run.
class Budget {
 public:
  Budget(int64_t steps, int64_t bytes) : steps_(steps), bytes_(bytes) {}
  void spend_steps(int64_t n = 1);
  void spend_bytes(size_t n);

 private:
  int64_t steps_, bytes_;
};

struct LimitReached : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct UnknownName : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// `x | name(call)`; throws UnknownName.
[[nodiscard]] Value apply_filter(const std::string& name, const Value& x, const Call& call, Budget& budget);
// `x is name(call)`; throws UnknownName.
[[nodiscard]] bool apply_test(const std::string& name, const Value& x, const Call& call);
// `x.name` where that is a method of texts, lists or objects; nothing when it is none.
[[nodiscard]] std::optional<Value> find_method(const Value& x, const std::string& name, Budget& budget);

// The items of a list, the keys of an object, the characters of a text; empty for undefined.
[[nodiscard]] List items_of(const Value& x, Budget& budget);
[[nodiscard]] bool contains(const Value& container, const Value& item);
[[nodiscard]] int64_t length_of(const Value& x);
[[nodiscard]] std::string strip(std::string_view text, std::string_view characters, bool left, bool right);

// An argument by position or name; undefined when it is not there.
[[nodiscard]] Value argument(const Call& call, size_t position, std::string_view name);

}  // namespace switchyard::io::chat
