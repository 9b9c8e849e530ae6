// Splitters of tokenizer.json: by an expression (Oniguruma, as in Hugging Face tokenizers) or by a literal.
#include "io/tokenizer/splitter.h"
#include "io/tokenizer/utf8.h"
#include "switchyard/error.h"

#include <oniguruma.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <optional>

namespace switchyard::io {
namespace {

constexpr size_t kMaxPatternBytes = 8192;           // known ones have less than 600
constexpr unsigned long kMaxRetries = 20'000'000;   // per search: an expression that runs away ends with an error
constexpr unsigned int kMaxStackEntries = 4'000'000;

struct Match {
  size_t begin = 0, end = 0;
};

const UChar* bytes_of(std::string_view text) { return reinterpret_cast<const UChar*>(text.data()); }

std::string onig_message(int code, OnigErrorInfo* info = nullptr) {
  UChar text[ONIG_MAX_ERROR_MESSAGE_LEN];
  const int length = info ? onig_error_code_to_str(text, code, info) : onig_error_code_to_str(text, code);
  return {reinterpret_cast<const char*>(text), static_cast<size_t>(length)};
}

void initialize_oniguruma() {
  static std::once_flag once;
  std::call_once(once, [] {
    OnigEncoding encodings[] = {ONIG_ENCODING_UTF8};
    onig_initialize(encodings, 1);
  });
}

class Expression {
 public:
  Expression(const std::string& pattern, const std::string& where) : where_(where) {
    if (pattern.size() > kMaxPatternBytes)
      fail(ErrorKind::checkpoint, "{}: expression of {} bytes; expected at most {}", where, pattern.size(), kMaxPatternBytes);
    initialize_oniguruma();
    OnigErrorInfo info;
    regex_t* regex = nullptr;
    const int code = onig_new(&regex, bytes_of(pattern), bytes_of(pattern) + pattern.size(), ONIG_OPTION_NONE,
                              ONIG_ENCODING_UTF8, ONIG_SYNTAX_DEFAULT, &info);
    if (code != ONIG_NORMAL)
      fail(ErrorKind::checkpoint, "{}: not a regular expression: {}", where, onig_message(code, &info));
    regex_.reset(regex);
  }

  [[nodiscard]] std::optional<Match> find(std::string_view text, size_t position) const {
    const std::unique_ptr<OnigRegion, FreeRegion> region(onig_region_new());
    const std::unique_ptr<OnigMatchParam, FreeParam> limits(onig_new_match_param());
    onig_initialize_match_param(limits.get());
    onig_set_retry_limit_in_search_of_match_param(limits.get(), kMaxRetries);
    onig_set_match_stack_limit_size_of_match_param(limits.get(), kMaxStackEntries);
    const UChar* end = bytes_of(text) + text.size();
    const int code = onig_search_with_param(regex_.get(), bytes_of(text), end, bytes_of(text) + position, end, region.get(),
                                            ONIG_OPTION_NONE, limits.get());
    if (code == ONIG_MISMATCH) return std::nullopt;
    if (code < 0) fail(ErrorKind::checkpoint, "{}: the expression fails on a text: {}", where_, onig_message(code));
    return Match{static_cast<size_t>(region->beg[0]), static_cast<size_t>(region->end[0])};
  }

 private:
  struct FreeRegex {
    void operator()(regex_t* regex) const { onig_free(regex); }
  };
  struct FreeRegion {
    void operator()(OnigRegion* region) const { onig_region_free(region, 1); }
  };
  struct FreeParam {
    void operator()(OnigMatchParam* param) const { onig_free_match_param(param); }
  };

  std::string where_;
  std::unique_ptr<regex_t, FreeRegex> regex_;
};

class Literal {
 public:
  explicit Literal(std::string pattern) : pattern_(std::move(pattern)) {}

  [[nodiscard]] std::optional<Match> find(std::string_view text, size_t position) const {
    const size_t found = pattern_.empty() ? text.npos : text.find(pattern_, position);
    if (found == text.npos) return std::nullopt;
    return Match{found, found + pattern_.size()};
  }

 private:
  std::string pattern_;
};

template <class Finder>
class RuleSplitter final : public Splitter {
 public:
  RuleSplitter(Finder finder, const SplitRule& rule) : finder_(std::move(finder)), keep_(rule.keep), invert_(rule.invert) {}

  void split(std::string_view text, std::vector<std::string_view>& words) const override {
    const auto add = [&](size_t begin, size_t end, bool is_match) {
      const bool removed = keep_ == SplitRule::Keep::gaps && is_match != invert_;
      if (begin < end && !removed) words.push_back(text.substr(begin, end - begin));
    };
    size_t done = 0, position = 0;
    while (position < text.size()) {
      const auto match = finder_.find(text, position);
      if (!match) break;
      position = match->end;
      if (match->begin >= match->end) {  // matched nothing: go on behind the next character
        position += match->end < text.size() ? decode_utf8(text, match->end).bytes : 1;
        continue;
      }
      add(done, match->begin, false);
      add(std::max(done, match->begin), match->end, true);
      done = match->end;
    }
    add(done, text.size(), false);
  }

 private:
  Finder finder_;
  SplitRule::Keep keep_;
  bool invert_;
};

}  // namespace

std::unique_ptr<Splitter> make_splitter(const SplitRule& rule, const std::string& where) {
  if (rule.is_regex) return std::make_unique<RuleSplitter<Expression>>(Expression(rule.pattern, where), rule);
  return std::make_unique<RuleSplitter<Literal>>(Literal(rule.pattern), rule);
}

}  // namespace switchyard::io
