#include "io/tokenizer/splitter.h"

#include "base/files.h"
#include "expect_error.h"
#include "io/tokenizer/utf8.h"

#include <gtest/gtest.h>

#include <random>

namespace switchyard::io {
namespace {

using testing::expect_error;
using Words = std::vector<std::string_view>;
using enum SplitBehavior;

Words split(const Splitter& splitter, std::string_view text) {
  Words words;
  splitter.split(text, words);
  return words;
}

Words split(const SplitRule& rule, std::string_view text) { return split(*make_rule_splitter(rule, "rule"), text); }

TEST(Gpt2Splitter, SplitsAsTheExpressionSays) {
  const auto splitter = make_gpt2_splitter();
  EXPECT_EQ(split(*splitter, "I've  12 cats' tails!?\n\n x"),
            (Words{"I", "'ve", " ", " 12", " cats", "'", " tails", "!?", "\n\n", " x"}));
  EXPECT_EQ(split(*splitter, ""), Words{});
  EXPECT_EQ(split(*splitter, " "), Words{" "});
  EXPECT_EQ(split(*splitter, "   "), Words{"   "});
  EXPECT_EQ(split(*splitter, "'"), Words{"'"});
}

// Oracle: the expression itself, run by Oniguruma.
class KnownExpressions : public ::testing::TestWithParam<size_t> {
 protected:
  const KnownExpression& known_ = known_expressions()[GetParam()];
  std::unique_ptr<Splitter> by_hand_ = make_known_splitter(known_.pattern);
  std::unique_ptr<Splitter> oracle_ = make_rule_splitter({.pattern = std::string(known_.pattern)}, "oracle");
};

TEST_P(KnownExpressions, EqualOnigurumaOnRandomText) {
  constexpr uint32_t kSeed = 3;
  std::mt19937 random(kSeed);
  const std::string_view frequent[] = {" ", "  ", "\n", "\r\n", "\t", "'", "'s", "'LL", "'re", "'\u017F", "'\u017Fx", "a", "Z", "é", "É", "ǅ", "7", "½", "．",
                                       "中", "の", "ア", "\u0e01", "\u02b0", "\u00a0", "\u3000", "\u2028", "!", "-", "/", "$", "+", "😀", "\u0301", "\u200d",
                                       "e\u0301", "\u0903", "Ab", "ABC", "\u0085", "\uFEFF", "\U000E0001"};
  for (int round = 0; round < 6000; ++round) {
    std::string text;
    for (uint32_t length = random() % 24; length > 0; --length) {
      if (random() % 4 != 0) {
        text += frequent[random() % std::size(frequent)];
      } else if (const char32_t c = random() % (random() % 2 == 0 ? 0x3000 : 0x110000); c < 0xD800 || c > 0xDFFF) {
        append_utf8(text, c);
      }
    }
    ASSERT_EQ(split(*by_hand_, text), split(*oracle_, text)) << "seed " << kSeed << ", round " << round << ": " << text;
  }
}

TEST_P(KnownExpressions, EqualOnigurumaOnTheCorpus) {
  const std::string text = read_text_file(std::string(SW_SOURCE_DIR) + "/data/english_classics.txt").substr(0, 300000);
  const Stretch stretch = next_stretch(text, 0);
  EXPECT_TRUE(split(*by_hand_, stretch.text) == split(*oracle_, stretch.text));
}

// Every code point between others: both splitters read the same tables.
TEST_P(KnownExpressions, EqualOnigurumaOnEveryCodePoint) {
  std::string text;
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    text += "aB! '"[c % 5];
    append_utf8(text, c);
    text += "1b .B"[c % 5];
  }
  EXPECT_TRUE(split(*by_hand_, text) == split(*oracle_, text));
}

INSTANTIATE_TEST_SUITE_P(All, KnownExpressions, ::testing::Range(size_t{0}, known_expressions().size()), [](const auto& info) {
  std::string name(known_expressions()[info.param].name);
  std::replace(name.begin(), name.end(), ' ', '_');
  return name;
});

TEST(KnownExpressions, AreFoundWithLineBreaksAsTheyAre) {
  EXPECT_NE(make_known_splitter("\\p{N}+"), nullptr);
  EXPECT_EQ(make_known_splitter("\\p{N}*"), nullptr);
  std::string raw(known_expressions()[3].pattern);
  for (size_t at; (at = raw.find("\\r\\n")) != raw.npos;) raw.replace(at, 4, "\r\n");
  EXPECT_NE(make_known_splitter(raw), nullptr);
}

TEST(RuleSplitter, KeepsMatchesGapsOrBoth) {
  EXPECT_EQ(split({.pattern = "[0-9]"}, "ab12c"), (Words{"ab", "1", "2", "c"}));
  EXPECT_EQ(split({.pattern = "[0-9]+", .behavior = removed}, "ab12c"), (Words{"ab", "c"}));
  EXPECT_EQ(split({.pattern = "[0-9]+", .behavior = removed, .invert = true}, "ab12c"), (Words{"12"}));
  EXPECT_EQ(split({.pattern = "b.", .is_regex = false}, "ab.b!"), (Words{"a", "b.", "b!"}));
  EXPECT_EQ(split({.pattern = "", .is_regex = false}, "ab"), Words{"ab"});
}

// The examples of the documentation of Hugging Face tokenizers.
TEST(RuleSplitter, MergesMatchesWithTheirNeighbours) {
  const std::string_view text = "the-final--countdown";
  const auto by = [&](SplitBehavior behavior) { return split({.pattern = "-", .is_regex = false, .behavior = behavior}, text); };
  EXPECT_EQ(by(removed), (Words{"the", "final", "countdown"}));
  EXPECT_EQ(by(isolated), (Words{"the", "-", "final", "-", "-", "countdown"}));
  EXPECT_EQ(by(merged_with_previous), (Words{"the-", "final-", "-", "countdown"}));
  EXPECT_EQ(by(merged_with_next), (Words{"the", "-final", "-", "-countdown"}));
  EXPECT_EQ(by(contiguous), (Words{"the", "-", "final", "--", "countdown"}));
}

// A match of nothing is a border, but not a second one behind a match.
TEST(RuleSplitter, SplitsWhereNothingMatches) {
  EXPECT_EQ(split({.pattern = "x*"}, "aéxxb"), (Words{"a", "é", "xx", "b"}));
  EXPECT_EQ(split({.pattern = "(?=b)"}, "ab"), (Words{"a", "b"}));
}

TEST(RuleSplitter, NamesBadAndRunawayExpressions) {
  expect_error(ErrorKind::checkpoint, {"t.json: Split 0", "not a regular expression"},
               [] { (void)make_splitter({.pattern = "(a"}, "t.json: Split 0"); });
  expect_error(ErrorKind::checkpoint, {"t.json", "9000 bytes"},
               [] { (void)make_splitter({.pattern = std::string(9000, 'a')}, "t.json"); });
  expect_error(ErrorKind::checkpoint, {"t.json", "fails on a text"},
               [] { split(*make_splitter({.pattern = "(a|aa)+$"}, "t.json"), std::string(60, 'a') + "b"); });
}

TEST(ClassSplitter, TakesCharactersOneByOne) {
  EXPECT_EQ(split(*make_class_splitter(kPunctuation, true, isolated), "a+b\u2026!!"), (Words{"a", "+", "b", "\u2026", "!", "!"}));
  EXPECT_EQ(split(*make_class_splitter(kSpace, false, removed), " a\u00a0 b\n"), (Words{"a", "b"}));
}

}  // namespace
}  // namespace switchyard::io
