#include "base/config_tree.h"

#include "expect_error.h"
#include "switchyard/fields.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

struct Inner {
  double factor = 1.5;
  std::vector<int64_t> sizes = {1, 2};
  template <class V> void fields(V&& v) {
    v("factor", factor, "a number");
    v("sizes", sizes, "some integers");
  }
};

struct Outer {
  int64_t steps = 10;
  bool fast = false;
  std::string name = "x";
  BlockSpec block = "linear";
  Inner inner;
  std::optional<Inner> maybe;
  template <class V> void fields(V&& v) {
    v("steps", steps, "how many");
    v("fast", fast, "or not");
    v("name", name, "of the run");
    v("block", block, "a plug-in");
    v("inner", inner, "a table");
    v("maybe", maybe, "a table that may be absent");
  }
};

Outer read(const std::string& toml) {
  Outer o;
  read_fields(o, parse_toml(toml, "r.toml"));
  return o;
}

std::string message_of(const std::string& toml) {
  try { (void)read(toml); } catch (const Error& e) { return e.what(); }
  return "accepted";
}

TEST(Fields, ReadEveryKindAndKeepDefaultsForTheRest) {
  const auto o = read("steps = 7\nfast = true\nblock = { kind = 'jitter', eps = 0.5 }\n[inner]\nfactor = 2\n[maybe]\nsizes = [4]\n");
  EXPECT_EQ(o.steps, 7);
  EXPECT_TRUE(o.fast);
  EXPECT_EQ(o.name, "x");
  EXPECT_EQ(o.block.kind, "jitter");
  ASSERT_NE(o.block.options.find("eps"), nullptr);
  EXPECT_EQ(o.block.options.find("kind"), nullptr);
  EXPECT_EQ(o.inner.factor, 2);
  EXPECT_EQ(o.inner.sizes, (std::vector<int64_t>{1, 2}));
  ASSERT_TRUE(o.maybe.has_value());
  EXPECT_EQ(o.maybe->sizes, (std::vector<int64_t>{4}));
}

TEST(Fields, NameFileLineColumnAndTheNearestKey) {
  EXPECT_EQ(message_of("steps = 7\n[inner]\nfactr = 2\n"), "r.toml:3:9: unknown key 'factr' in [inner]; did you mean 'factor'?");
  EXPECT_EQ(message_of("zzz = 1\n"), "r.toml:1:7: unknown key 'zzz' in []; known: steps, fast, name, block, inner, maybe");
}

TEST(Fields, NameFoundAndExpectedTypes) {
  EXPECT_EQ(message_of("steps = 'many'\n"), "r.toml:1:9: 'steps' is a string, expected an integer");
  EXPECT_EQ(message_of("steps = 1.5\n"), "r.toml:1:9: 'steps' is a number, expected an integer");
  EXPECT_EQ(message_of("[inner]\nsizes = [1, 'a']\n"), "r.toml:2:13: 'inner.sizes[1]' is a string, expected an integer");
  EXPECT_EQ(message_of("inner = 3\n"), "r.toml:1:9: 'inner' is an integer, expected a table");
  EXPECT_EQ(message_of("block = { eps = 1 }\n"), "r.toml:1:9: 'block' is a table, expected a name, or a table with the key 'kind'");
}

TEST(Fields, TheFullFormReadsBackEqual) {
  auto o = read("steps = 3\nblock = { kind = 'a', b = [1, 2] }\n");
  const auto full = write_any(o);
  Outer again;
  read_fields(again, full);
  EXPECT_EQ(to_json(write_any(again)), to_json(full));
  EXPECT_EQ(to_json(full)["inner"]["factor"], 1.5);
}

TEST(Toml, SyntaxErrorsNameFileLineAndColumn) {
  EXPECT_EQ(message_of("steps = \n").substr(0, 9), "r.toml:1:");
  EXPECT_EQ(message_of("a = 1\na = 2\n").substr(0, 9), "r.toml:2:");
  EXPECT_NE(message_of("when = 2020-01-01\n").find("dates and times"), std::string::npos);
}

TEST(Json, RefusesGarbageDepthAndZeroBytes) {
  const auto message = [](std::string_view text) -> std::string {
    try { (void)parse_json(text, "c.json"); } catch (const Error& e) { return e.what(); }
    return "accepted";
  };
  EXPECT_EQ(message("{\"a\": [1, true, null, \"x\"]}"), "accepted");
  EXPECT_NE(message("{\"a\": ").find("c.json: not valid JSON"), std::string::npos);
  EXPECT_NE(message(std::string(100000, '[')).find("c.json"), std::string::npos);
  EXPECT_NE(message(std::string_view("{}\0junk", 7)).find("zero byte"), std::string::npos);
}

TEST(Override, SetsValuesTablesArrayItemsAndBlocks) {
  auto root = parse_toml("steps = 1\nblock = 'linear'\n[[losses]]\nkind = 'a'\n", "r.toml");
  apply_override(root, "steps=5");
  apply_override(root, "inner.factor = 0.25");  // as in a file
  apply_override(root, "losses.0.weight=3");
  apply_override(root, "block.bias=true");
  apply_override(root, "name = plain words");
  const auto json = to_json(root);
  EXPECT_EQ(json["steps"], 5);
  EXPECT_EQ(json["inner"]["factor"], 0.25);
  EXPECT_EQ(json["losses"][0]["weight"], 3);
  EXPECT_EQ(json["block"], (nlohmann::ordered_json{{"kind", "linear"}, {"bias", true}}));
  EXPECT_EQ(json["name"], "plain words");
}

TEST(Override, RefusesWhatHasNoValueOrNoPlace) {
  auto root = parse_toml("[[losses]]\nkind = 'a'\n", "r.toml");
  for (const char* bad : {"steps", "=1", "a..b=1", "losses.3.kind=b", "losses.x=1"}) EXPECT_THROW(apply_override(root, bad), Error) << bad;
}

}  // namespace
}  // namespace switchyard
