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

Words split(const Splitter& splitter, std::string_view text) {
  Words words;
  splitter.split(text, words);
  return words;
}

Words split(const SplitRule& rule, std::string_view text) { return split(*make_splitter(rule, "rule"), text); }

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
TEST(Gpt2Splitter, EqualsTheExpressionOnRandomText) {
  const auto splitter = make_gpt2_splitter();
  const auto oracle = make_splitter({.pattern = kGpt2Expression}, "oracle");
  constexpr uint32_t kSeed = 3;
  std::mt19937 random(kSeed);
  const std::string_view frequent[] = {" ", "  ", "\n", "\t", "'", "'s", "'ll", "'re", "a", "Z", "é", "7", "½", "．", "中",
                                       "\u00a0", "\u3000", "\u2028", "!", "-", "😀", "\u0301", "\u200d", "e\u0301"};
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    for (uint32_t length = random() % 24; length > 0; --length) {
      if (random() % 3 != 0) {
        text += frequent[random() % std::size(frequent)];
      } else if (const char32_t c = random() % 0x110000; c < 0xD800 || c > 0xDFFF) {
        append_utf8(text, c);
      }
    }
    ASSERT_EQ(split(*splitter, text), split(*oracle, text)) << "seed " << kSeed << ", round " << round << ": " << text;
  }
}

TEST(Gpt2Splitter, EqualsTheExpressionOnTheCorpus) {
  const std::string text = read_text_file(std::string(SW_SOURCE_DIR) + "/data/english_classics.txt").substr(0, 300000);
  const Stretch stretch = next_stretch(text, 0);
  EXPECT_EQ(split(*make_gpt2_splitter(), stretch.text), split({.pattern = kGpt2Expression}, stretch.text));
}

// Every code point behind a letter: both splitters read the same tables.
TEST(Gpt2Splitter, EqualsTheExpressionOnEveryCodePoint) {
  std::string text;
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    text += 'a';
    append_utf8(text, c);
    text += '1';
  }
  EXPECT_TRUE(split(*make_gpt2_splitter(), text) == split({.pattern = kGpt2Expression}, text));
}

TEST(RuleSplitter, KeepsMatchesGapsOrBoth) {
  using Keep = SplitRule::Keep;
  EXPECT_EQ(split({.pattern = "[0-9]"}, "ab12c"), (Words{"ab", "1", "2", "c"}));
  EXPECT_EQ(split({.pattern = "[0-9]+", .keep = Keep::gaps}, "ab12c"), (Words{"ab", "c"}));
  EXPECT_EQ(split({.pattern = "[0-9]+", .keep = Keep::gaps, .invert = true}, "ab12c"), (Words{"12"}));
  EXPECT_EQ(split({.pattern = "b.", .is_regex = false}, "ab.b!"), (Words{"a", "b.", "b!"}));
  EXPECT_EQ(split({.pattern = "", .is_regex = false}, "ab"), Words{"ab"});
  EXPECT_EQ(split({.pattern = "x*"}, "aéxxb"), (Words{"aé", "xx", "b"}));  // empty matches split nothing
  EXPECT_EQ(split({.pattern = "(?=b)"}, "ab"), Words{"ab"});
}

TEST(RuleSplitter, NamesBadAndRunawayExpressions) {
  expect_error(ErrorKind::checkpoint, {"t.json: Split 0", "not a regular expression"},
               [] { (void)make_splitter({.pattern = "(a"}, "t.json: Split 0"); });
  expect_error(ErrorKind::checkpoint, {"t.json", "9000 bytes"},
               [] { (void)make_splitter({.pattern = std::string(9000, 'a')}, "t.json"); });
  expect_error(ErrorKind::checkpoint, {"t.json", "fails on a text"},
               [] { split(*make_splitter({.pattern = "(a|aa)+$"}, "t.json"), std::string(60, 'a') + "b"); });
}

}  // namespace
}  // namespace switchyard::io
