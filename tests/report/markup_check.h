// A small checker of markup as our pages write it: every element closed in order, attributes quoted and given once,
// text free of bare < > &. Contents of <script> and <style> are taken as they are.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard::report {

[[nodiscard]] inline bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

class MarkupCheck {
 public:
  explicit MarkupCheck(std::string_view text) : text_(text) {}

  // Empty when the document is well formed, else what is wrong and where.
  std::string error() {
    if (text_.substr(0, 15) == "<!DOCTYPE html>") at_ = 15;
    while (at_ < text_.size() && error_.empty()) text_[at_] == '<' ? tag() : character();
    if (error_.empty() && !open_.empty()) wrong("never closed: " + open_.back());
    return error_;
  }

 private:
  void wrong(const std::string& what) {
    const size_t from = at_ > 60 ? at_ - 60 : 0;
    error_ = what + " near byte " + std::to_string(at_) + ": " + std::string(text_.substr(from, 120));
  }

  void character() {
    if (text_[at_] == '>') return wrong("bare >");
    if (text_[at_] == '&') return entity();
    if (open_.empty() && std::string_view(" \n").find(text_[at_]) == std::string_view::npos) return wrong("text outside of the root");
    ++at_;
  }

  void entity() {
    const size_t end = text_.find(';', at_);
    static const std::set<std::string_view> kKnown = {"&amp", "&lt", "&gt", "&quot", "&#39"};
    if (end == std::string_view::npos || kKnown.count(text_.substr(at_, end - at_)) == 0) return wrong("bare &");
    at_ = end + 1;
  }

  void tag() {
    if (text_.substr(at_, 2) == "</") return end_tag();
    ++at_;
    const std::string name(take_name());
    if (name.empty()) return wrong("no element name");
    std::set<std::string> attributes;
    for (;;) {
      while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
      if (text_.substr(at_, 2) == "/>") {
        at_ += 2;
        return;
      }
      if (at_ < text_.size() && text_[at_] == '>') break;
      if (!attribute(attributes)) return;
    }
    ++at_;
    if (name == "script" || name == "style") return raw_text(name);
    open_.push_back(name);
  }

  bool attribute(std::set<std::string>& seen) {
    const std::string name(take_name());
    if (name.empty() || text_.substr(at_, 2) != "=\"") return wrong("bad attribute"), false;
    if (!seen.insert(name).second) return wrong("attribute given twice: " + name), false;
    for (at_ += 2; at_ < text_.size() && text_[at_] != '"' && error_.empty();) {
      if (text_[at_] == '<') return wrong("< in an attribute"), false;
      text_[at_] == '&' ? entity() : static_cast<void>(++at_);
    }
    ++at_;
    return error_.empty();
  }

  void raw_text(const std::string& name) {
    const size_t end = text_.find("</" + name, at_);
    if (end == std::string_view::npos) return wrong("never closed: " + name);
    at_ = text_.find('>', end) + 1;
  }

  void end_tag() {
    at_ += 2;
    const std::string name(take_name());
    if (open_.empty() || open_.back() != name) return wrong("</" + name + "> closes " + (open_.empty() ? "nothing" : open_.back()));
    open_.pop_back();
    ++at_;
  }

  std::string_view take_name() {
    const size_t begin = at_;
    while (at_ < text_.size() && std::string_view(" =/>\n\"<").find(text_[at_]) == std::string_view::npos) ++at_;
    return text_.substr(begin, at_ - begin);
  }

  std::string_view text_;
  size_t at_ = 0;
  std::vector<std::string> open_;
  std::string error_;
};

}  // namespace switchyard::report
