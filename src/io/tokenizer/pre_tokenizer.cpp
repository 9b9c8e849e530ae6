#include "io/tokenizer/pre_tokenizer.h"

#include "io/tokenizer/components.h"

namespace switchyard::io {
namespace {

using Step = PreTokenizer::Step;

SplitBehavior read_behavior(const JsonAt& at, const std::string& otherwise) {
  constexpr std::pair<std::string_view, SplitBehavior> kNames[] = {{"Isolated", SplitBehavior::isolated},
                                                                   {"Removed", SplitBehavior::removed},
                                                                   {"MergedWithPrevious", SplitBehavior::merged_with_previous},
                                                                   {"MergedWithNext", SplitBehavior::merged_with_next},
                                                                   {"Contiguous", SplitBehavior::contiguous}};
  const std::string found = at.get_string("behavior", otherwise);
  for (const auto& [name, behavior] : kNames)
    if (found == name) return behavior;
  at.at("behavior").wrong("Isolated, Removed, MergedWithPrevious, MergedWithNext or Contiguous");
}

Step make_byte_level(const JsonAt& at) {
  Step step;
  if (at.get_bool("add_prefix_space", true))
    step.rewrite = [](std::string_view word, bool) -> std::optional<std::string> {
      if (word.front() == ' ') return std::nullopt;
      std::string out(1, ' ');
      return out.append(word);
    };
  if (at.get_bool("use_regex", true)) step.splitter = make_gpt2_splitter();
  return step;
}

Step make_split(const JsonAt& at) {
  const JsonAt pattern = at.at("pattern");
  const bool is_regex = pattern.has("Regex");
  const SplitRule rule{.pattern = pattern.at(is_regex ? "Regex" : "String").as_string(),
                       .is_regex = is_regex,
                       .behavior = read_behavior(at, ""),
                       .invert = at.get_bool("invert", false)};
  return {.rewrite = {}, .splitter = make_splitter(rule, pattern.where())};
}

enum class PrependScheme { always, first, never };

PrependScheme read_prepend_scheme(const JsonAt& at) {
  if (!at.has("prepend_scheme")) return at.get_bool("add_prefix_space", true) ? PrependScheme::always : PrependScheme::never;
  const JsonAt scheme = at.at("prepend_scheme");
  if (scheme.as_string() == "always") return PrependScheme::always;
  if (scheme.as_string() == "first") return PrependScheme::first;
  if (scheme.as_string() != "never") scheme.wrong("always, first or never");
  return PrependScheme::never;
}

Step make_metaspace(const JsonAt& at) {
  const std::string mark = at.get_string("replacement", "\u2581");
  if (mark.empty() || decode_utf8(mark, 0).bytes != mark.size()) at.at("replacement").wrong("a character");
  Step step;
  step.rewrite = [mark, scheme = read_prepend_scheme(at), spaces = find_literal(" ")](std::string_view word, bool is_start) {
    std::string out = replace_matches(spaces, word, mark);
    const bool prepends = scheme == PrependScheme::always || (scheme == PrependScheme::first && is_start);
    if (prepends && out.compare(0, mark.size(), mark) != 0) out.insert(0, mark);
    return std::optional(std::move(out));
  };
  if (at.get_bool("split", true))
    step.splitter = make_rule_splitter({.pattern = mark, .is_regex = false, .behavior = SplitBehavior::merged_with_next}, at.where());
  return step;
}

Step make_digits(const JsonAt& at) {
  return {.rewrite = {}, .splitter = make_known_splitter(at.get_bool("individual_digits", false) ? R"(\p{N})" : R"(\p{N}+)")};
}

Step make_punctuation(const JsonAt& at) { return {.rewrite = {}, .splitter = make_class_splitter(kPunctuation, true, read_behavior(at, "Isolated"))}; }

Step make_whitespace(const JsonAt& at) {
  return {
      .rewrite = {},
      .splitter = make_rule_splitter({.pattern = R"([\w\u200C\u200D]+|[^\w\s\u200C\u200D]+)", .behavior = SplitBehavior::removed, .invert = true}, at.where())};
}

Step make_whitespace_split(const JsonAt&) { return {.rewrite = {}, .splitter = make_class_splitter(kSpace, false, SplitBehavior::removed)}; }

// Words between white space; punctuation marks are words of their own.
class BertSplitter final : public Splitter {
 public:
  void split(std::string_view text, std::vector<std::string_view>& words) const override {
    std::vector<std::string_view> between;
    spaces_->split(text, between);
    for (const std::string_view word : between) marks_->split(word, words);
  }

 private:
  std::unique_ptr<Splitter> spaces_ = make_class_splitter(kSpace, false, SplitBehavior::removed);
  std::unique_ptr<Splitter> marks_ = make_class_splitter(kPunctuation, true, SplitBehavior::isolated);
};

Step make_bert(const JsonAt&) { return {.rewrite = {}, .splitter = std::make_unique<BertSplitter>()}; }

Step make_char_delimiter(const JsonAt& at) {
  return {.rewrite = {},
          .splitter = make_rule_splitter({.pattern = at.at("delimiter").as_string(), .is_regex = false, .behavior = SplitBehavior::removed}, at.where())};
}

using Entry = ComponentEntry<Step (*)(const JsonAt&)>;

constexpr Entry kEntries[] = {
    {"ByteLevel", make_byte_level},
    {"Split", make_split},
    {"Metaspace", make_metaspace},
    {"Digits", make_digits},
    {"Punctuation", make_punctuation},
    {"Whitespace", make_whitespace},
    {"WhitespaceSplit", make_whitespace_split},
    {"BertPreTokenizer", make_bert},
    {"CharDelimiterSplit", make_char_delimiter},
};

void split_characters(const Splitter& splitter, std::string_view word, std::vector<std::string_view>& words) {
  for (size_t position = 0; position < word.size();) {
    const Stretch stretch = next_stretch(word, position);
    position += stretch.text.size();
    if (stretch.is_valid) {
      splitter.split(stretch.text, words);
    } else {
      words.push_back(stretch.text);
    }
  }
}

}  // namespace

PreTokenizer::PreTokenizer(const JsonAt& component) {
  for_each_step(component, "pretokenizers", [&](const JsonAt& step) {
    if (is_byte_level_)  // after it the text is no text any more
      refuse_component(step, "ByteLevel as the last step");
    steps_.push_back(find_component(step, std::span<const Entry>(kEntries))(step));
    is_byte_level_ = step.at("type").as_string() == "ByteLevel";
  });
}

void PreTokenizer::split(std::string_view text, bool is_start, Words& out) const {
  out.texts.clear();
  out.words.assign(1, text);
  for (const Step& step : steps_) {
    out.finer.clear();
    for (std::string_view word : out.words) {
      if (step.rewrite)
        if (auto changed = step.rewrite(word, is_start && word.data() == text.data())) word = out.texts.emplace_back(*std::move(changed));
      if (step.splitter) {
        split_characters(*step.splitter, word, out.finer);
      } else if (!word.empty()) {
        out.finer.push_back(word);
      }
    }
    out.words.swap(out.finer);
  }
}

}  // namespace switchyard::io
