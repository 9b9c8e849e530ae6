// Splitters of tokenizer.json: by an expression, a literal or a class of characters.
#include "io/tokenizer/regex.h"
#include "io/tokenizer/scan.h"
#include "io/tokenizer/splitter.h"

#include <algorithm>

namespace switchyard::io {
namespace {

struct Part {
  size_t begin = 0, end = 0;
  bool is_match = false;
};

// Gaps and matches of a text in order, gaps never empty.
class Parts {
 public:
  Parts(std::vector<Part>& parts, bool invert) : parts_(parts), invert_(invert) {}

  void match(size_t begin, size_t end) {
    begin = std::max(begin, done_);
    if (done_ < begin) parts_.push_back({done_, begin, invert_});
    parts_.push_back({begin, end, !invert_});
    done_ = end;
  }
  void finish(size_t size) {
    if (done_ < size) parts_.push_back({done_, size, invert_});
  }

 private:
  std::vector<Part>& parts_;
  bool invert_;
  size_t done_ = 0;
};

void merge_with_previous(std::vector<Part>& parts) {
  size_t kept = 0;
  bool previous_is_match = false;
  for (const Part part : parts) {
    if (part.is_match && !previous_is_match && kept > 0) {
      parts[kept - 1].end = part.end;
    } else {
      parts[kept++] = part;
    }
    previous_is_match = part.is_match;
  }
  parts.resize(kept);
}

void merge_with_next(std::vector<Part>& parts) {
  size_t first = parts.size();
  bool next_is_match = false;
  for (size_t i = parts.size(); i-- > 0;) {
    const Part part = parts[i];
    if (part.is_match && !next_is_match && first < parts.size()) {
      parts[first].begin = part.begin;
    } else {
      parts[--first] = part;
    }
    next_is_match = part.is_match;
  }
  parts.erase(parts.begin(), parts.begin() + static_cast<std::ptrdiff_t>(first));
}

void merge_equals(std::vector<Part>& parts) {
  size_t kept = 0;
  for (const Part part : parts) {
    if (kept > 0 && parts[kept - 1].is_match == part.is_match) {
      parts[kept - 1].end = part.end;
    } else {
      parts[kept++] = part;
    }
  }
  parts.resize(kept);
}

class RuleSplitter final : public Splitter {
 public:
  RuleSplitter(MatchFinder find, SplitBehavior behavior, bool invert) : find_(std::move(find)), behavior_(behavior), invert_(invert) {}

  void split(std::string_view text, std::vector<std::string_view>& words) const override {
    std::vector<Part> parts;
    Parts all(parts, invert_);
    find_(text, [&](size_t begin, size_t end) { all.match(begin, end); });
    all.finish(text.size());
    if (behavior_ == SplitBehavior::merged_with_previous) merge_with_previous(parts);
    if (behavior_ == SplitBehavior::merged_with_next) merge_with_next(parts);
    if (behavior_ == SplitBehavior::contiguous) merge_equals(parts);
    for (const Part& part : parts) {
      const bool is_removed = behavior_ == SplitBehavior::removed && part.is_match;
      if (part.begin < part.end && !is_removed) words.push_back(text.substr(part.begin, part.end - part.begin));
    }
  }

 private:
  MatchFinder find_;
  SplitBehavior behavior_;
  bool invert_;
};

bool is_ascii_punctuation(char c) noexcept { return c > ' ' && c < 0x7F && !(char_classes(static_cast<unsigned char>(c)) & (kLetter | kNumber)); }

}  // namespace

std::unique_ptr<Splitter> make_rule_splitter(const SplitRule& rule, const std::string& where) {
  auto find = rule.is_regex ? find_regex(rule.pattern, where) : find_literal(rule.pattern);
  return std::make_unique<RuleSplitter>(std::move(find), rule.behavior, rule.invert);
}

std::unique_ptr<Splitter> make_splitter(const SplitRule& rule, const std::string& where) {
  if (rule.is_regex && rule.behavior == SplitBehavior::isolated)  // invert changes nothing: all parts are words
    if (auto known = make_known_splitter(rule.pattern)) return known;
  return make_rule_splitter(rule, where);
}

std::unique_ptr<Splitter> make_class_splitter(CharClasses any, bool ascii_punctuation, SplitBehavior behavior) {
  const auto find = [any, ascii_punctuation](std::string_view text, const auto& visit) {
    const CharTable& chars = char_table();
    for (size_t position = 0; position < text.size();) {
      const Char c = chars.at(text, position);
      if (c.is(any) || (ascii_punctuation && is_ascii_punctuation(text[position]))) visit(position, position + c.bytes);
      position += c.bytes;
    }
  };
  return std::make_unique<RuleSplitter>(find, behavior, false);
}

}  // namespace switchyard::io
