// Operators on values. They throw std::invalid_argument that says what is wrong.
#pragma once

#include "io/chat/builtins.h"

namespace switchyard::io::chat {

// + - * / // % ** ~ == != < <= > >= in "not in".
[[nodiscard]] Value combine(const std::string& op, const Value& a, const Value& b, Budget& budget);
[[nodiscard]] Value negate(const Value& x);

// x[index]: an item of a list, a member of an object, a character of a text; undefined when there is none.
[[nodiscard]] Value item_of(const Value& x, const Value& index);
// x[start:stop:step]; none = not given.
[[nodiscard]] Value slice(const Value& x, const Value& start, const Value& stop, const Value& step, Budget& budget);

[[nodiscard]] Value range(const Call& call, Budget& budget);

// What an undefined value was asked for as.
[[nodiscard]] std::string undefined_name(const Value& x);

}  // namespace switchyard::io::chat
