#include "io/tokenizer/regex.h"

#include "io/tokenizer/utf8.h"
#include "switchyard/error.h"

#include <oniguruma.h>

#include <algorithm>
#include <mutex>

namespace switchyard::io {
namespace {

constexpr size_t kMaxPatternBytes = 8192;          // known ones have less than 600
constexpr unsigned long kMaxRetries = 20'000'000;  // per search: an expression that runs away ends with an error
constexpr unsigned int kMaxStackEntries = 4'000'000;

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

// What one scan of a text needs.
struct Scan {
  OnigRegion* region = onig_region_new();
  OnigMatchParam* limits = onig_new_match_param();

  Scan() {
    onig_initialize_match_param(limits);
    onig_set_retry_limit_in_search_of_match_param(limits, kMaxRetries);
    onig_set_match_stack_limit_size_of_match_param(limits, kMaxStackEntries);
  }
  ~Scan() {
    onig_free_match_param(limits);
    onig_region_free(region, 1);
  }
  Scan(const Scan&) = delete;
  Scan& operator=(const Scan&) = delete;
};

}  // namespace

struct Regex::Compiled {
  std::string where;
  regex_t* regex = nullptr;
  ~Compiled() { onig_free(regex); }
};

Regex::Regex(const std::string& pattern, std::string where) : compiled_(std::make_unique<Compiled>()) {
  if (pattern.size() > kMaxPatternBytes)
    fail(ErrorKind::checkpoint, "{}: expression of {} bytes; expected at most {}", where, pattern.size(), kMaxPatternBytes);
  initialize_oniguruma();
  OnigErrorInfo info;
  const int code =
      onig_new(&compiled_->regex, bytes_of(pattern), bytes_of(pattern) + pattern.size(), ONIG_OPTION_NONE, ONIG_ENCODING_UTF8, ONIG_SYNTAX_DEFAULT, &info);
  if (code != ONIG_NORMAL) {
    compiled_->regex = nullptr;
    fail(ErrorKind::checkpoint, "{}: not a regular expression: {}", where, onig_message(code, &info));
  }
  compiled_->where = std::move(where);
}

Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

void Regex::for_each_match(std::string_view text, const std::function<void(size_t, size_t)>& visit) const {
  const Scan scan;
  const UChar* begin = bytes_of(text);
  const UChar* end = begin + text.size();
  size_t position = 0, behind_last = std::string_view::npos;
  while (position <= text.size()) {
    const int code = onig_search_with_param(compiled_->regex, begin, end, begin + position, end, scan.region, ONIG_OPTION_NONE, scan.limits);
    if (code == ONIG_MISMATCH) return;
    if (code < 0) fail(ErrorKind::checkpoint, "{}: the expression fails on a text: {}", compiled_->where, onig_message(code));
    const auto from = static_cast<size_t>(scan.region->beg[0]), to = static_cast<size_t>(scan.region->end[0]);
    if (from >= to && to == behind_last) {  // nothing, right behind the last match: look on behind the next character
      position += position < text.size() ? std::max<size_t>(1, decode_utf8(text, position).bytes) : 1;
      continue;
    }
    position = behind_last = to;
    visit(from, to);
  }
}

MatchFinder find_regex(const std::string& pattern, const std::string& where) {
  const auto regex = std::make_shared<const Regex>(pattern, where);
  return [regex](std::string_view text, const auto& visit) { regex->for_each_match(text, visit); };
}

MatchFinder find_literal(std::string literal) {
  return [literal = std::move(literal)](std::string_view text, const auto& visit) {
    if (literal.empty()) return;
    for (size_t at = text.find(literal); at != text.npos; at = text.find(literal, at + literal.size())) visit(at, at + literal.size());
  };
}

void check_growth(size_t before, size_t after) {
  constexpr size_t kMostTimes = 64, kFree = 1 << 16;  // the longest normal form of a character has 11 times its bytes
  if (after / kMostTimes > before + kFree / kMostTimes)
    fail(ErrorKind::checkpoint, "the tokenizer's replacements make {} bytes or more of a text of {}", after, before);
}

std::string replace_matches(const MatchFinder& find, std::string_view text, std::string_view content) {
  std::string out;
  for (size_t position = 0; position < text.size();) {
    const Stretch stretch = next_stretch(text, position);
    position += stretch.text.size();
    size_t done = 0;
    if (stretch.is_valid)
      find(stretch.text, [&](size_t begin, size_t end) {
        out += stretch.text.substr(done, begin - std::min(done, begin));
        out += content;
        done = end;
        check_growth(text.size(), out.size());
      });
    out += stretch.text.substr(done);
  }
  return out;
}

}  // namespace switchyard::io
