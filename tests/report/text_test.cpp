#include "report/text.h"

#include <gtest/gtest.h>

#include <cmath>

#include "report/json_fields.h"

namespace switchyard::report {
namespace {

TEST(Utf8, WellFormedTextStaysAndEveryBadByteIsReplaced) {
  const std::string good = "a\n é 中 😀 \xEF\xBF\xBD";
  EXPECT_EQ(clean_utf8(good), good);
  const std::string bad = "\xEF\xBF\xBD";
  for (const char* text : {"\xFF", "\xC3", "\x80", "\xC0", "\xF8"}) EXPECT_EQ(clean_utf8(text), bad) << text;
  EXPECT_EQ(clean_utf8("\xED\xA0\x80"), bad + bad + bad);      // surrogate
  EXPECT_EQ(clean_utf8("\xE0\x80\x80"), bad + bad + bad);      // overlong
  EXPECT_EQ(clean_utf8("\xF4\x90\x80\x80"), bad + bad + bad + bad);  // beyond U+10FFFF
  EXPECT_EQ(clean_utf8("a\xE4\xB8z"), "a" + bad + bad + "z");  // cut short
}

// Property: what comes out can be parsed as JSON text, which must be UTF-8.
TEST(Utf8, AnyBytesBecomeValid) {
  for (unsigned a = 0; a < 256; ++a)
    for (unsigned b = 0; b < 256; b += 3) {
      const std::string bytes = {static_cast<char>(a), static_cast<char>(b), static_cast<char>(b ^ a), 'x'};
      EXPECT_NO_THROW((void)Json(clean_utf8(bytes)).dump()) << a << " " << b;
    }
}

TEST(Escape, NothingOfMarkupIsLeft) {
  EXPECT_EQ(escape("<a href=\"x\">&'"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;");
  EXPECT_EQ(escape(std::string("\0\x01\x1b\x7f\t\n", 6)), "␀␁␛␡\t\n");
  EXPECT_EQ(escape("\xFF"), "\xEF\xBF\xBD");
}

TEST(Escape, ScriptJsonCannotEndItsElement) {
  const std::string text = escape_script_json(Json("</script><!--&").dump());
  EXPECT_EQ(text.find('<'), std::string::npos);
  EXPECT_EQ(Json::parse(text), "</script><!--&");
}

TEST(Numbers, AreShortAndNeverNan) {
  EXPECT_EQ(short_number(0), "0");
  EXPECT_EQ(short_number(3.14159), "3.14");
  EXPECT_EQ(short_number(42), "42");
  EXPECT_EQ(short_number(9999), "9999");
  EXPECT_EQ(short_number(12345), "12.3 k");
  EXPECT_EQ(short_number(999999), "1.00 M");
  EXPECT_EQ(short_number(46.7e9), "46.7 G");
  EXPECT_EQ(fixed(-0.001, 2), "0.00");
  EXPECT_EQ(fixed(-1.5, 1), "−1.5");
  EXPECT_EQ(percent(0.1234), "12.3%");
  EXPECT_EQ(percent(0.0013), "0.13%");
  EXPECT_EQ(percent(0), "0%");
  EXPECT_EQ(moment("2025-05-17T14:02:11Z"), "2025-05-17 14:02 UTC");
  EXPECT_EQ(moment("yesterday"), "yesterday");
  EXPECT_EQ(duration(1.24), "1.2 s");
  EXPECT_EQ(duration(59.7), "1 min 0 s");
  EXPECT_EQ(duration(222.4), "3 min 42 s");
  EXPECT_EQ(duration(3600 * 2 + 60 * 5), "2 h 5 min");
  for (const double bad : {std::nan(""), HUGE_VAL})
    for (const std::string& text : {short_number(bad), fixed(bad, 2), percent(bad), duration(bad)}) EXPECT_EQ(text, kNoValue);
}

}  // namespace
}  // namespace switchyard::report
