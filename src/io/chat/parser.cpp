#include "io/chat/syntax.h"
#include "switchyard/error.h"

#include <algorithm>
#include <initializer_list>

namespace switchyard::io::chat {
namespace {

constexpr int kMaxDepth = 150;  // of expressions and of blocks

class Parser {
 public:
  Parser(std::vector<Token> tokens, const std::string& name) : tokens_(std::move(tokens)), name_(name) {}

  Body run() {
    Body body = parse_body({});
    if (peek().kind != TokenKind::end) wrong("the block '" + tokens_[at_ + 1].text + "' belongs to nothing");
    return body;
  }

 private:
  // ---- tokens ----
  [[nodiscard]] const Token& peek(size_t ahead = 0) const { return tokens_[std::min(at_ + ahead, tokens_.size() - 1)]; }
  const Token& take() { return tokens_[at_ < tokens_.size() - 1 ? at_++ : at_]; }
  [[nodiscard]] bool is_symbol(std::string_view text, size_t ahead = 0) const { return peek(ahead).kind == TokenKind::symbol && peek(ahead).text == text; }
  [[nodiscard]] bool is_name(std::string_view text, size_t ahead = 0) const { return peek(ahead).kind == TokenKind::name && peek(ahead).text == text; }
  bool accept_symbol(std::string_view text) { return is_symbol(text) && (take(), true); }
  bool accept_name(std::string_view text) { return is_name(text) && (take(), true); }

  [[noreturn]] void wrong(std::string_view what, ErrorKind kind = ErrorKind::checkpoint) const {
    fail(kind, "{}:{}:{}: {}", name_, peek().at.line, peek().at.column, what);
  }
  [[nodiscard]] std::string found() const {
    switch (peek().kind) {
      case TokenKind::print_end: return "'}}'";
      case TokenKind::block_end: return "'%}'";
      case TokenKind::end: return "the end";
      default: return "'" + peek().text + "'";
    }
  }
  void expect_symbol(std::string_view text) {
    if (!accept_symbol(text)) wrong(fmt::format("expected '{}', found {}", text, found()));
  }
  void expect_block_end() {
    if (peek().kind != TokenKind::block_end) wrong(fmt::format("expected '%}}', found {}", found()));
    take();
  }
  std::string expect_identifier() {
    if (peek().kind != TokenKind::name) wrong(fmt::format("expected a name, found {}", found()));
    return take().text;
  }

  class Deeper {
   public:
    explicit Deeper(Parser& parser) : parser_(parser) {
      if (++parser.depth_ > kMaxDepth) parser.wrong("nested too deep", ErrorKind::unsupported);
    }
    ~Deeper() { --parser_.depth_; }
    Deeper(const Deeper&) = delete;
    Deeper& operator=(const Deeper&) = delete;

   private:
    Parser& parser_;
  };

  // ---- expressions ----
  [[nodiscard]] ExpressionPtr make(Op op, Position at, std::string text = {}) const {
    return std::make_unique<Expression>(Expression{op, at, std::move(text), {}, {}, 1});
  }
  void adopt(Expression& parent, ExpressionPtr child) {
    if (child) parent.depth = std::max(parent.depth, child->depth + 1);
    if (parent.depth > kMaxDepth) wrong("an expression of too many parts", ErrorKind::unsupported);
    parent.children.push_back(std::move(child));
  }
  ExpressionPtr binary(std::string text, ExpressionPtr left, ExpressionPtr right, Position at) {
    auto out = make(Op::binary, at, std::move(text));
    adopt(*out, std::move(left));
    adopt(*out, std::move(right));
    return out;
  }

  ExpressionPtr parse_expression() {
    const Deeper deeper(*this);
    auto value = parse_or();
    while (is_name("if")) {
      auto out = make(Op::conditional, take().at);
      adopt(*out, std::move(value));
      adopt(*out, parse_or());
      adopt(*out, accept_name("else") ? parse_expression() : nullptr);
      value = std::move(out);
    }
    return value;
  }

  ExpressionPtr parse_or() {
    auto left = parse_and();
    while (is_name("or")) {
      const Position at = take().at;
      left = binary("or", std::move(left), parse_and(), at);
    }
    return left;
  }

  ExpressionPtr parse_and() {
    auto left = parse_not();
    while (is_name("and")) {
      const Position at = take().at;
      left = binary("and", std::move(left), parse_not(), at);
    }
    return left;
  }

  ExpressionPtr parse_not() {
    if (!is_name("not")) return parse_compare();
    const Deeper deeper(*this);
    auto out = make(Op::logical_not, take().at);
    adopt(*out, parse_not());
    return out;
  }

  // a < b < c means (a < b) and (b < c); no template needs the middle evaluated once, so chains are refused.
  ExpressionPtr parse_compare() {
    auto left = parse_sum();
    bool seen = false;
    while (true) {
      std::string op;
      if (peek().kind == TokenKind::symbol && (is_symbol("==") || is_symbol("!=") || is_symbol("<") || is_symbol("<=") || is_symbol(">") || is_symbol(">=")))
        op = peek().text;
      else if (is_name("in")) op = "in";
      else if (is_name("not") && is_name("in", 1)) op = "not in";
      else return left;
      if (seen) wrong("comparisons in a chain are not read here; join two of them with 'and'", ErrorKind::unsupported);
      seen = true;
      const Position at = take().at;
      if (op == "not in") take();
      left = binary(op, std::move(left), parse_sum(), at);
    }
  }

  template <class Next>
  ExpressionPtr left_to_right(std::initializer_list<std::string_view> symbols, Next next) {
    auto left = next();
    while (std::any_of(symbols.begin(), symbols.end(), [&](std::string_view s) { return is_symbol(s); })) {
      const Token& op = take();
      left = binary(op.text, std::move(left), next(), op.at);
    }
    return left;
  }
  ExpressionPtr parse_sum() {
    return left_to_right({"+", "-"}, [this] { return parse_concatenation(); });
  }
  ExpressionPtr parse_concatenation() {
    return left_to_right({"~"}, [this] { return parse_product(); });
  }
  ExpressionPtr parse_product() {
    return left_to_right({"*", "/", "//", "%"}, [this] { return parse_power(); });
  }
  ExpressionPtr parse_power() {
    return left_to_right({"**"}, [this] { return parse_unary(true); });
  }

  ExpressionPtr parse_unary(bool with_filters) {
    const Deeper deeper(*this);
    ExpressionPtr out;
    if (is_symbol("-") || is_symbol("+")) {
      const Token& sign = take();
      out = make(sign.text == "-" ? Op::negate : Op::positive, sign.at);
      adopt(*out, parse_unary(false));
    } else {
      out = parse_primary();
    }
    out = parse_postfix(std::move(out));
    return with_filters ? parse_filters(std::move(out)) : std::move(out);
  }

  ExpressionPtr parse_primary() {
    const Deeper deeper(*this);
    const Token token = take();
    switch (token.kind) {
      case TokenKind::integer: return make(Op::integer, token.at, token.text);
      case TokenKind::number: return make(Op::number, token.at, token.text);
      case TokenKind::string: {
        auto out = make(Op::string, token.at, token.text);
        while (peek().kind == TokenKind::string) out->text += take().text;
        return out;
      }
      case TokenKind::name:
        if (token.text == "true" || token.text == "True") return make(Op::boolean, token.at, "true");
        if (token.text == "false" || token.text == "False") return make(Op::boolean, token.at, "");
        if (token.text == "none" || token.text == "None") return make(Op::none, token.at);
        return make(Op::variable, token.at, token.text);
      case TokenKind::symbol:
        if (token.text == "(") return parse_parentheses(token.at);
        if (token.text == "[") return parse_items(make(Op::list, token.at), "]");
        if (token.text == "{") return parse_dict(token.at);
        [[fallthrough]];
      default:
        --at_;
        wrong(fmt::format("expected a value, found {}", found()));
    }
  }

  ExpressionPtr parse_items(ExpressionPtr out, std::string_view close) {
    while (!accept_symbol(close)) {
      adopt(*out, parse_expression());
      if (!is_symbol(close)) expect_symbol(",");
    }
    return out;
  }

  ExpressionPtr parse_parentheses(Position at) {
    if (is_symbol(")")) return parse_items(make(Op::tuple, at), ")");
    auto first = parse_expression();
    if (accept_symbol(")")) return first;
    expect_symbol(",");
    auto out = make(Op::tuple, at);
    adopt(*out, std::move(first));
    return parse_items(std::move(out), ")");
  }

  ExpressionPtr parse_dict(Position at) {
    auto out = make(Op::dict, at);
    while (!accept_symbol("}")) {
      adopt(*out, parse_expression());
      expect_symbol(":");
      adopt(*out, parse_expression());
      if (!is_symbol("}")) expect_symbol(",");
    }
    return out;
  }

  ExpressionPtr parse_postfix(ExpressionPtr value) {
    while (true) {
      const Position at = peek().at;
      if (accept_symbol(".")) {
        const bool index = peek().kind == TokenKind::integer;  // a.0
        auto out = make(index ? Op::item : Op::attribute, at, index ? "" : expect_identifier());
        adopt(*out, std::move(value));
        if (index) adopt(*out, make(Op::integer, peek().at, peek().text)), take();
        value = std::move(out);
      } else if (accept_symbol("[")) {
        value = parse_subscript(std::move(value), at);
      } else if (accept_symbol("(")) {
        auto out = make(Op::call, at);
        adopt(*out, std::move(value));
        parse_arguments(*out);
        value = std::move(out);
      } else {
        return value;
      }
    }
  }

  ExpressionPtr parse_subscript(ExpressionPtr value, Position at) {
    std::vector<ExpressionPtr> parts(1);
    bool slice = false;
    if (!is_symbol(":")) parts[0] = parse_expression();
    while (accept_symbol(":")) {
      slice = true;
      parts.push_back(is_symbol(":") || is_symbol("]") ? nullptr : parse_expression());
    }
    expect_symbol("]");
    if (parts.size() > 3) wrong("a slice has at most three parts");
    auto out = make(slice ? Op::slice : Op::item, at);
    adopt(*out, std::move(value));
    if (slice) parts.resize(3);
    for (auto& part : parts) adopt(*out, std::move(part));
    return out;
  }

  // Behind "(".
  void parse_arguments(Expression& out) {
    while (!accept_symbol(")")) {
      if (is_symbol("*") || is_symbol("**")) wrong("argument lists as values (* and **) are not read here", ErrorKind::unsupported);
      Argument argument;
      if (peek().kind == TokenKind::name && is_symbol("=", 1)) argument.name = take().text, take();
      argument.value = parse_expression();
      out.depth = std::max(out.depth, argument.value->depth + 1);
      if (out.depth > kMaxDepth) wrong("an expression of too many parts", ErrorKind::unsupported);
      out.arguments.push_back(std::move(argument));
      if (!is_symbol(")")) expect_symbol(",");
    }
  }

  ExpressionPtr parse_filters(ExpressionPtr value) {
    while (true) {
      const Position at = peek().at;
      if (accept_symbol("|")) {
        auto out = make(Op::filter, at, expect_identifier());
        adopt(*out, std::move(value));
        if (accept_symbol("(")) parse_arguments(*out);
        value = std::move(out);
      } else if (accept_name("is")) {
        value = parse_test(std::move(value), at);
      } else {
        return value;
      }
    }
  }

  ExpressionPtr parse_test(ExpressionPtr value, Position at) {
    const bool negated = accept_name("not");
    auto out = make(Op::test, at, expect_identifier());
    adopt(*out, std::move(value));
    if (accept_symbol("(")) {
      parse_arguments(*out);
    } else if (takes_bare_argument()) {
      out->arguments.push_back({"", parse_postfix(parse_primary())});
      out->depth = std::max(out->depth, out->arguments[0].value->depth + 1);
    }
    if (!negated) return out;
    auto no = make(Op::logical_not, at);
    adopt(*no, std::move(out));
    return no;
  }

  // `x is divisibleby 3`, `x is in [...]`.
  [[nodiscard]] bool takes_bare_argument() const {
    const Token& next = peek();
    if (next.kind == TokenKind::name)
      return next.text != "else" && next.text != "or" && next.text != "and" && next.text != "is" && next.text != "if" && next.text != "not" &&
             next.text != "in";
    return next.kind == TokenKind::string || next.kind == TokenKind::integer || next.kind == TokenKind::number || is_symbol("[") || is_symbol("{");
  }

  // a, b without parentheses.
  ExpressionPtr parse_expression_or_tuple() {
    auto first = parse_expression();
    if (!is_symbol(",")) return first;
    auto out = make(Op::tuple, first->at);
    adopt(*out, std::move(first));
    while (accept_symbol(",")) {
      if (peek().kind == TokenKind::block_end || peek().kind == TokenKind::print_end) break;
      adopt(*out, parse_expression());
    }
    return out;
  }

  // ---- statements ----
  [[nodiscard]] bool ends_with(std::initializer_list<std::string_view> ends) const {
    if (peek().kind != TokenKind::block_begin) return false;
    return std::any_of(ends.begin(), ends.end(), [&](std::string_view end) { return is_name(end, 1); });
  }

  // Up to a block that begins with one of `ends`, which stays.
  Body parse_body(std::initializer_list<std::string_view> ends) {
    const Deeper deeper(*this);
    Body body;
    while (peek().kind != TokenKind::end && !ends_with(ends)) {
      const Token& token = peek();
      if (token.kind == TokenKind::text) {
        body.push_back(statement(Act::text, token.at, take().text));
      } else if (token.kind == TokenKind::print_begin) {
        body.push_back(statement(Act::print, take().at));
        body.back().value = parse_expression_or_tuple();
        if (peek().kind != TokenKind::print_end) wrong(fmt::format("expected '}}}}', found {}", found()));
        take();
      } else {
        if (is_name("endif", 1) || is_name("endfor", 1) || is_name("else", 1) || is_name("elif", 1) || is_name("endset", 1) || is_name("endmacro", 1) ||
            is_name("endgeneration", 1))
          break;
        parse_block(body);
      }
    }
    return body;
  }

  [[nodiscard]] static Statement statement(Act act, Position at, std::string text = {}) {
    Statement out{};
    out.act = act;
    out.at = at;
    out.text = std::move(text);
    return out;
  }

  void expect_end(std::string_view name, Position start) {
    if (peek().kind != TokenKind::block_begin || !is_name(name, 1))
      wrong(fmt::format("expected '{{% {} %}}' for the block at {}:{}, found {}", name, start.line, start.column,
                        peek().kind == TokenKind::block_begin ? "'" + peek(1).text + "'" : found()));
    take(), take();
    expect_block_end();
  }

  void parse_block(Body& body) {
    const Position at = take().at;
    const std::string name = expect_identifier();
    if (name == "if") return parse_if(body, at);
    if (name == "for") return parse_for(body, at);
    if (name == "set") return parse_set(body, at);
    if (name == "macro") return parse_macro(body, at);
    if (name == "break" || name == "continue") {
      body.push_back(statement(name == "break" ? Act::stop : Act::next, at));
      return expect_block_end();
    }
    if (name == "generation") {  // marks what the assistant says, for training; the text is the same
      expect_block_end();
      for (Statement& inner : parse_body({"endgeneration"})) body.push_back(std::move(inner));
      return expect_end("endgeneration", at);
    }
    --at_;
    wrong(fmt::format("the block '{}' is not read here; known: if, for, set, macro, break, continue, generation", name), ErrorKind::unsupported);
  }

  void parse_if(Body& body, Position at) {
    Statement out = statement(Act::branch, at);
    auto condition = parse_expression();
    expect_block_end();
    while (true) {
      Branch branch{std::move(condition), parse_body({"elif", "else", "endif"})};
      const bool last = !branch.condition;
      out.branches.push_back(std::move(branch));
      if (last || !(ends_with({"elif"}) || ends_with({"else"}))) break;
      take();
      condition = take().text == "elif" ? parse_expression() : nullptr;
      expect_block_end();
    }
    expect_end("endif", at);
    body.push_back(std::move(out));
  }

  void parse_for(Body& body, Position at) {
    Statement out = statement(Act::loop, at);
    const bool parentheses = accept_symbol("(");
    do out.targets.push_back(expect_identifier());
    while (accept_symbol(","));
    if (parentheses) expect_symbol(")");
    if (!accept_name("in")) wrong(fmt::format("expected 'in', found {}", found()));
    out.value = parse_or();  // `if` behind it is the filter of the loop
    if (accept_name("if")) out.filter = parse_expression();
    if (is_name("recursive")) wrong("recursive loops are not read here", ErrorKind::unsupported);
    expect_block_end();
    out.body = parse_body({"else", "endfor"});
    if (ends_with({"else"})) {
      take(), take();
      expect_block_end();
      out.otherwise = parse_body({"endfor"});
    }
    expect_end("endfor", at);
    body.push_back(std::move(out));
  }

  void parse_set(Body& body, Position at) {
    Statement out = statement(Act::set, at);
    out.targets.push_back(expect_identifier());
    if (accept_symbol(".")) out.targets.push_back(expect_identifier()), out.to_attribute = true;
    else while (accept_symbol(",")) out.targets.push_back(expect_identifier());
    if (accept_symbol("=")) {
      out.value = parse_expression_or_tuple();
      expect_block_end();
    } else {
      if (is_symbol("|")) wrong("a filter of a set block is not read here", ErrorKind::unsupported);
      out.act = Act::set_body;
      expect_block_end();
      out.body = parse_body({"endset"});
      expect_end("endset", at);
    }
    body.push_back(std::move(out));
  }

  void parse_macro(Body& body, Position at) {
    Statement out = statement(Act::macro, at, expect_identifier());
    expect_symbol("(");
    while (!accept_symbol(")")) {
      Parameter parameter{expect_identifier(), nullptr};
      if (accept_symbol("=")) parameter.otherwise = parse_expression();
      out.parameters.push_back(std::move(parameter));
      if (!is_symbol(")")) expect_symbol(",");
    }
    expect_block_end();
    out.body = parse_body({"endmacro"});
    expect_end("endmacro", at);
    body.push_back(std::move(out));
  }

  std::vector<Token> tokens_;
  const std::string& name_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

Body parse_template(std::string_view text, const std::string& name) { return Parser(tokenize_template(text, name), name).run(); }

}  // namespace switchyard::io::chat
