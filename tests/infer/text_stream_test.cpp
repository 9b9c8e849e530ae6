#include "infer/text_stream.h"

#include "switchyard/random.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

std::string shown(TextStream& stream, const std::vector<std::string>& pieces) {
  std::string out;
  for (const auto& piece : pieces) out += stream.push(piece);
  return out + stream.finish();
}

TEST(TextStream, ShowsPlainTextAtOnce) {
  TextStream stream;
  EXPECT_EQ(stream.push("abc"), "abc");
  EXPECT_EQ(stream.push(" d"), " d");
  EXPECT_EQ(stream.finish(), "");
}

TEST(TextStream, HoldsAnUnfinishedCharacterBack) {
  TextStream stream;
  EXPECT_EQ(stream.push("a\xE2"), "a");
  EXPECT_EQ(stream.push("\x82"), "");
  EXPECT_EQ(stream.push("\xAC!"), "\xE2\x82\xAC!");
}

TEST(TextStream, ReplacesWhatIsNoUtf8) {
  TextStream stream;
  EXPECT_EQ(shown(stream, {"a\xFFz", "\xE2\x28", "\xED\xA0\x80"}), "a\uFFFDz\uFFFD(\uFFFD\uFFFD\uFFFD");
}

TEST(TextStream, ReplacesACharacterThatIsNeverFinished) {
  TextStream stream;
  EXPECT_EQ(shown(stream, {"a\xF0\x9F\x98"}), "a\uFFFD");
}

TEST(TextStream, EndsBeforeAStopStringThatLiesAcrossTokens) {
  TextStream stream({"\n\nUser:"});
  EXPECT_EQ(stream.push("hello\n"), "hello");
  EXPECT_EQ(stream.push("\nUs"), "");
  EXPECT_FALSE(stream.stopped());
  EXPECT_EQ(stream.push("er: more"), "");
  EXPECT_TRUE(stream.stopped());
  EXPECT_EQ(stream.push("ignored"), "");
  EXPECT_EQ(stream.finish(), "");
}

TEST(TextStream, ShowsWhatOnlyLookedLikeAStopString) {
  TextStream stream({"END"});
  EXPECT_EQ(stream.push("xE"), "x");
  EXPECT_EQ(stream.push("N"), "");
  EXPECT_EQ(stream.push("Emy"), "ENEmy");
  TextStream unfinished({"END"});
  EXPECT_EQ(shown(unfinished, {"the EN"}), "the EN");
}

TEST(TextStream, TheEarliestStopStringWins) {
  TextStream stream({"dd", "b", ""});
  EXPECT_EQ(shown(stream, {"aabddb"}), "aa");
}

// Oracle: the whole text at once. However it is cut into pieces, the stream shows the text up to the first stop string.
TEST(TextStream, CutsDoNotMatter) {
  const std::string text = "grüße €20 😀 aab aabaa STOP end\xC3";
  const RandomStream random(5, "cuts");
  uint64_t draw = 0;
  for (int trial = 0; trial < 300; ++trial) {
    TextStream with_stop({"aabaa", "STOP"}), without;
    std::string got, all;
    for (size_t at = 0; at < text.size();) {
      const size_t n = 1 + random.below(draw++, 5);
      got += with_stop.push(text.substr(at, n));
      all += without.push(text.substr(at, n));
      at += n;
    }
    EXPECT_EQ(got + with_stop.finish(), "grüße €20 😀 aab ");
    EXPECT_EQ(all + without.finish(), "grüße €20 😀 aab aabaa STOP end\uFFFD");
  }
}

}  // namespace
}  // namespace switchyard
