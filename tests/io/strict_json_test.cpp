#include "io/strict_json.h"

#include "expect_error.h"

#include <gtest/gtest.h>

namespace switchyard::io {
namespace {

using testing::expect_error;

TEST(StrictJson, RefusesWhatALenientReaderHides) {
  EXPECT_EQ(parse_strict_json(R"({"a":{"a":1},"b":[{"a":2},{"a":3}]})", "f").size(), 2U);
  for (const auto& [text, word] : {std::pair("", "not valid JSON"), std::pair("{\"a\":1,}", "not valid JSON"),
                                   std::pair("{\"a\":1e999}", "not valid JSON"), std::pair("\"\xc0\x80\"", "not valid JSON"),
                                   std::pair("{\"b\":[{\"a\":2,\"a\":3}]}", "\"a\" is given twice")})
    expect_error(ErrorKind::checkpoint, {"f.json", word}, [&, text = text] { (void)parse_strict_json(text, "f.json"); });
  expect_error(ErrorKind::checkpoint, {"deeper than 64"},
               [] { (void)parse_strict_json(std::string(1'000'000, '['), "f.json"); });
}

TEST(JsonAt, NamesThePathAndWhatIsThere) {
  const auto document = parse_strict_json(R"({"a":{"b":[1,"x",true,null,1.5,[1,2,3,4,5]]}})", "f.json");
  const JsonAt list = JsonAt(document, "f.json").at("a").at("b");
  EXPECT_EQ(list.item(0).as_integer(), 1);
  EXPECT_EQ(list.item(1).as_string(), "x");
  EXPECT_TRUE(list.item(2).as_bool());
  const auto expect = [](std::initializer_list<std::string_view> words, auto action) {
    expect_error(ErrorKind::checkpoint, words, action);
  };
  expect({"f.json: a.b[0]: expected a string, found 1"}, [&] { (void)list.item(0).as_string(); });
  expect({"f.json: a.b[4]: expected an integer, found 1.5"}, [&] { (void)list.item(4).as_integer(); });
  expect({"f.json: a.b[3]: expected true or false, found null"}, [&] { (void)list.item(3).as_bool(); });
  expect({"f.json: a.b[5]: expected an object, found array of 5"}, [&] { (void)list.item(5).as_object(); });
  expect({"f.json: a: key 'c' is missing"}, [&] { (void)JsonAt(document, "f.json").at("a").at("c"); });
}

TEST(Show, IsShortAndPrintable) {
  EXPECT_EQ(show(nlohmann::json("a\nü")), R"("a\n\u00fc")");
  EXPECT_EQ(show(nlohmann::json(std::string(100, 'x'))).size(), 40U);
  EXPECT_EQ(show(nlohmann::json("\xff")), R"("\ufffd")");
}

}  // namespace
}  // namespace switchyard::io
