// Splitting of text into words, which tokens never cross.
#pragma once

#include "io/tokenizer/char_class.h"

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard::io {

class Splitter {
 public:
  virtual ~Splitter() = default;
  // Appends the words of `text`, valid UTF-8, in order. Safe to call from several threads.
  virtual void split(std::string_view text, std::vector<std::string_view>& words) const = 0;
};

// What becomes of the matches of a rule, by their names in tokenizer.json.
enum class SplitBehavior { isolated, removed, merged_with_previous, merged_with_next, contiguous };

struct SplitRule {
  std::string pattern;
  bool is_regex = true;  // otherwise a literal
  SplitBehavior behavior = SplitBehavior::isolated;
  bool invert = false;   // exchanges matches and gaps
};

// Throws Error{checkpoint} that starts with `where` for an expression that Oniguruma refuses; split() throws
// Error{checkpoint} for one that runs away on a text. Always Oniguruma: the oracle of the splitters written by hand.
[[nodiscard]] std::unique_ptr<Splitter> make_rule_splitter(const SplitRule& rule, const std::string& where);

// The same result, by hand where the expression is a known one.
[[nodiscard]] std::unique_ptr<Splitter> make_splitter(const SplitRule& rule, const std::string& where);

// The characters of the classes `any`, and ASCII punctuation if wanted, are the matches, one by one.
[[nodiscard]] std::unique_ptr<Splitter> make_class_splitter(CharClasses any, bool ascii_punctuation, SplitBehavior behavior);

[[nodiscard]] std::unique_ptr<Splitter> make_gpt2_splitter();

// An expression of published tokenizers that is written by hand; all matches are isolated.
struct KnownExpression {
  std::string_view name, pattern;
  std::unique_ptr<Splitter> (*make)();
};
[[nodiscard]] std::span<const KnownExpression> known_expressions();
[[nodiscard]] const KnownExpression* find_known_expression(std::string_view pattern);  // nullptr: not known
[[nodiscard]] std::unique_ptr<Splitter> make_known_splitter(std::string_view pattern);  // nullptr: not known

}  // namespace switchyard::io
