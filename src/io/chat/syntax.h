// The tree of a template. Depth is bounded by the parser, so that walking and freeing it need no care.
#pragma once

#include "io/chat/tokens.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace switchyard::io::chat {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

struct Argument {
  std::string name;  // empty: by position
  ExpressionPtr value;
};

enum class Op {
  string, integer, number, boolean, none,   // text has the literal
  variable,                                 // text
  list, tuple, dict,                        // children; of a dict keys and values in turn
  attribute,                                // children[0].text
  item,                                     // children[0][children[1]]
  slice,                                    // children[0][children[1] : children[2] : children[3]], each may be null
  call,                                     // children[0](arguments)
  filter,                                   // children[0] | text(arguments)
  test,                                     // children[0] is text(arguments)
  negate, positive, logical_not,            // children[0]
  binary,                                   // text: + - * / // % ** ~ == != < <= > >= in, "not in", and, or
  conditional,                              // children: value, condition, otherwise (may be null)
};

struct Expression {
  Op op;
  Position at;
  std::string text;
  std::vector<ExpressionPtr> children;
  std::vector<Argument> arguments;
  int depth = 1;
};

struct Statement;
using Body = std::vector<Statement>;

enum class Act { text, print, branch, loop, set, set_body, macro, stop, next };

struct Parameter {
  std::string name;
  ExpressionPtr otherwise;  // null: none
};

struct Branch {
  ExpressionPtr condition;  // null: else
  Body body;
};

struct Statement {
  Act act;
  Position at;
  std::string text;                   // text; name of a macro
  std::vector<std::string> targets;   // loop: variables; set: one name or several; set of an attribute: {object, attribute}
  bool to_attribute = false;
  ExpressionPtr value, filter;        // print, set, loop (list, and condition)
  std::vector<Branch> branches;       // branch
  std::vector<Parameter> parameters;  // macro
  Body body, otherwise;               // loop, set_body, macro; else of a loop
};

[[nodiscard]] Body parse_template(std::string_view text, const std::string& name);

}  // namespace switchyard::io::chat
