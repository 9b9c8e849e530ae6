#include "io/chat/tokens.h"

#include "switchyard/error.h"

#include <algorithm>
#include <array>
#include <cstdlib>

namespace switchyard::io::chat {
namespace {

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

constexpr std::array<std::string_view, 28> kSymbols{"**", "//", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "~", "<", ">",
                                                    "=", "(", ")", "[", "]", "{", "}", ",", ":", ".", "|", ";", "!", "@"};

// One kind of line end, and without the last one, as the Jinja library reads templates.
std::string normal_lines(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\r') {
      out += '\n';
      if (i + 1 < text.size() && text[i + 1] == '\n') ++i;
    } else {
      out += text[i];
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class Tokenizer {
 public:
  Tokenizer(std::string text, const std::string& name) : text_(std::move(text)), name_(name) {}

  std::vector<Token> run() {
    while (at_ < text_.size()) read_text_and_mark();
    tokens_.push_back({TokenKind::end, "", position()});
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void wrong(Position at, std::string_view what) const { fail(ErrorKind::checkpoint, "{}:{}:{}: {}", name_, at.line, at.column, what); }

  [[nodiscard]] Position position() {  // asked for in rising order
    for (; counted_ < at_ && counted_ < text_.size(); ++counted_) {
      if (text_[counted_] == '\n') ++here_.line, here_.column = 1;
      else if ((static_cast<unsigned char>(text_[counted_]) & 0xC0U) != 0x80U) ++here_.column;
    }
    return here_;
  }

  [[nodiscard]] size_t next_mark() const {
    for (size_t i = at_; i + 1 < text_.size(); ++i)
      if (text_[i] == '{' && (text_[i + 1] == '{' || text_[i + 1] == '%' || text_[i + 1] == '#')) return i;
    return text_.size();
  }

  void read_text_and_mark() {
    const size_t mark = next_mark();
    const char kind = mark < text_.size() ? text_[mark + 1] : ' ';
    const char sign = mark + 2 < text_.size() ? text_[mark + 2] : ' ';
    size_t end = mark;
    if (sign == '-' && mark < text_.size()) {
      while (end > at_ && is_space(text_[end - 1])) --end;
    } else if (mark < text_.size() && kind != '{' && sign != '+') {  // lstrip_blocks: blanks from the start of the line
      size_t start = mark;
      while (start > at_ && (text_[start - 1] == ' ' || text_[start - 1] == '\t')) --start;
      if (start == 0 || text_[start - 1] == '\n') end = start;
    }
    if (end > at_) tokens_.push_back({TokenKind::text, text_.substr(at_, end - at_), position()});
    at_ = mark;
    if (mark == text_.size()) return;
    const Position start = position();
    at_ += sign == '-' || sign == '+' ? 3 : 2;
    if (kind == '#') return skip_comment(start);
    tokens_.push_back({kind == '{' ? TokenKind::print_begin : TokenKind::block_begin, "", start});
    read_inside(kind == '{' ? "}}" : "%}", start);
  }

  void skip_comment(Position start) {
    const size_t end = text_.find("#}", at_);
    if (end == text_.npos) wrong(start, "this comment does not end");
    const char sign = end > at_ ? text_[end - 1] : ' ';
    at_ = end + 2;
    after_mark(sign, true);
  }

  // What "-" and trim_blocks take away behind a mark.
  void after_mark(char sign, bool block) {
    if (sign == '-') {
      while (at_ < text_.size() && is_space(text_[at_])) ++at_;
    } else if (block && sign != '+' && at_ < text_.size() && text_[at_] == '\n') {
      ++at_;
    }
  }

  void read_inside(std::string_view close, Position start) {
    int braces = 0;  // "}}" may also close two objects
    const auto closes = [&](size_t at) { return braces == 0 && text_.compare(at, 2, close) == 0; };
    while (true) {
      while (at_ < text_.size() && is_space(text_[at_])) ++at_;
      if (at_ >= text_.size()) wrong(start, fmt::format("no '{}' closes this", close));
      const char c = text_[at_];
      const bool signed_close = (c == '-' || c == '+') && closes(at_ + 1);
      if (signed_close || closes(at_)) {
        tokens_.push_back({close == "}}" ? TokenKind::print_end : TokenKind::block_end, "", position()});
        at_ += signed_close ? 3 : 2;
        return after_mark(signed_close ? c : ' ', close == "%}");
      }
      read_token(braces);
    }
  }

  void read_token(int& braces) {
    const char c = text_[at_];
    const Position start = position();
    if (c == '"' || c == '\'') return read_string(start);
    if (is_digit(c)) return read_number(start);
    size_t end = at_;
    if (is_name_start(c)) {
      while (end < text_.size() && (is_name_start(text_[end]) || is_digit(text_[end]))) ++end;
      tokens_.push_back({TokenKind::name, text_.substr(at_, end - at_), start});
      at_ = end;
      return;
    }
    for (const std::string_view symbol : kSymbols)
      if (text_.compare(at_, symbol.size(), symbol) == 0) {
        braces += symbol == "{" ? 1 : symbol == "}" ? -1 : 0;
        tokens_.push_back({TokenKind::symbol, std::string(symbol), start});
        at_ += symbol.size();
        return;
      }
    wrong(start, fmt::format("a character (code {}) that has no meaning here", static_cast<unsigned char>(c)));
  }

  void read_number(Position start) {
    size_t end = at_;
    bool fraction = false;
    while (end < text_.size() && (is_digit(text_[end]) || text_[end] == '_')) ++end;
    if (end + 1 < text_.size() && text_[end] == '.' && is_digit(text_[end + 1])) {
      fraction = true;
      for (++end; end < text_.size() && is_digit(text_[end]);) ++end;
    }
    const size_t exponent = end + (end + 1 < text_.size() && (text_[end + 1] == '-' || text_[end + 1] == '+') ? 2 : 1);
    if (end < text_.size() && (text_[end] == 'e' || text_[end] == 'E') && exponent < text_.size() && is_digit(text_[exponent])) {
      fraction = true;
      for (end = exponent; end < text_.size() && is_digit(text_[end]);) ++end;
    }
    std::string digits = text_.substr(at_, end - at_);
    std::erase(digits, '_');
    if (!fraction && digits.size() > 18) wrong(start, "this whole number is too large");
    tokens_.push_back({fraction ? TokenKind::number : TokenKind::integer, digits, start});
    at_ = end;
  }

  void read_string(Position start) {
    const char quote = text_[at_++];
    std::string out;
    while (at_ < text_.size() && text_[at_] != quote) {
      if (text_[at_] == '\\') read_escape(out, start);
      else out += text_[at_++];
    }
    if (at_ >= text_.size()) wrong(start, "this string does not end");
    ++at_;
    tokens_.push_back({TokenKind::string, std::move(out), start});
  }

  void read_escape(std::string& out, Position start) {
    constexpr std::string_view letters = "nrtbfv0abf", meant("\n\r\t\b\f\v\0\a\b\f", 10);
    if (++at_ >= text_.size()) wrong(start, "this string does not end");
    const char c = text_[at_++];
    const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (digits > 0) {
      const std::string hex = text_.substr(at_, digits);
      if (hex.size() != digits || hex.find_first_not_of("0123456789abcdefABCDEF") != hex.npos) wrong(start, "an escape in this string lacks digits");
      const unsigned long code = std::strtoul(hex.c_str(), nullptr, 16);
      if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) wrong(start, "an escape in this string is no character");
      append_code(out, static_cast<uint32_t>(code));
      at_ += digits;
    } else if (const size_t found = letters.find(c); found != letters.npos) {
      out += meant[found];
    } else if (c == '\n') {  // a line that goes on
    } else if (c == '\\' || c == '\'' || c == '"') {
      out += c;
    } else {
      out += '\\', out += c;  // as Python keeps unknown escapes
    }
  }

  static void append_code(std::string& out, uint32_t code) {
    if (code < 0x80) {
      out += static_cast<char>(code);
      return;
    }
    const int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    constexpr std::array<uint32_t, 4> lead{0, 0xC0, 0xE0, 0xF0};
    out += static_cast<char>(lead[static_cast<size_t>(more)] | code >> (6 * more));
    for (int i = more - 1; i >= 0; --i) out += static_cast<char>(0x80U | (code >> (6 * i) & 0x3FU));
  }

  std::string text_;
  const std::string& name_;
  size_t at_ = 0, counted_ = 0;
  Position here_;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize_template(std::string_view text, const std::string& name) { return Tokenizer(normal_lines(text), name).run(); }

}  // namespace switchyard::io::chat
