// Regular expressions of tokenizer.json, run by Oniguruma as in Hugging Face tokenizers.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace switchyard::io {

class Regex {
 public:
  // Throws Error{checkpoint} that starts with `where` for an expression that Oniguruma refuses.
  Regex(const std::string& pattern, std::string where);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;

  // Calls visit(begin, end) for the matches in `text`, valid UTF-8, from left to right; they do not overlap. One that is
  // empty counts unless it stands right behind the match before. Throws Error{checkpoint} for an expression that runs
  // away on this text. Safe to call from several threads.
  void for_each_match(std::string_view text, const std::function<void(size_t, size_t)>& visit) const;

 private:
  struct Compiled;
  std::unique_ptr<Compiled> compiled_;
};

// A pattern of tokenizer.json: an expression or a literal.
using MatchFinder = std::function<void(std::string_view text, const std::function<void(size_t, size_t)>& visit)>;
[[nodiscard]] MatchFinder find_regex(const std::string& pattern, const std::string& where);
[[nodiscard]] MatchFinder find_literal(std::string literal);

// Rewriting may make a text longer, but not without end: a chain of replacements of a hostile file would fill the memory.
// Throws Error{checkpoint} when `after` bytes are far more than `before`.
void check_growth(size_t before, size_t after);

// `text` with `content` in place of every match; bytes that are no UTF-8 stay. Throws as check_growth does.
[[nodiscard]] std::string replace_matches(const MatchFinder& find, std::string_view text, std::string_view content);

}  // namespace switchyard::io
