// A template as tokens: pieces of text, marks, and what stands between the marks. White space control happens here.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace switchyard::io::chat {

struct Position {
  int line = 1, column = 1;
};

enum class TokenKind { text, print_begin, print_end, block_begin, block_end, name, string, integer, number, symbol, end };

struct Token {
  TokenKind kind = TokenKind::end;
  std::string text;  // of strings: what they mean
  Position at;
};

// Throws Error{checkpoint} "name:line:column: ...": a mark or string that does not end, a character that has no meaning.
[[nodiscard]] std::vector<Token> tokenize_template(std::string_view text, const std::string& name);

}  // namespace switchyard::io::chat
