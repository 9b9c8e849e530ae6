#include "steps/toml_text.h"

#include "base/config_tree.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

TEST(TomlText, ReadsBackToTheSameTree) {
  const std::string text = R"(title = "quotes \" and \\ and\nnewline \u0001"
on = true
rate = 1e-05
whole = 2.0
"odd key" = -7

[a]
list = [1, 2, 3]

[a.b]
blocks = [{ kind = "x", weight = 0.5 }, "y"]
empty = []
)";
  const ConfigNode tree = parse_toml(text, "test");
  const std::string written = toml_text(tree);
  EXPECT_EQ(to_json(parse_toml(written, "written")), to_json(tree)) << written;
  EXPECT_EQ(toml_text(parse_toml(written, "written")), written);
}

TEST(TomlText, NumbersKeepTheirTypeAndTheirLastBit) {
  for (const double value : {0.1, 1.0 / 3, 1e300, 5e-324, -2.0, 1e21}) {
    const ConfigNode back = parse_toml(toml_text(ConfigNode::Table{{"x", value}}), "test");
    ASSERT_TRUE(std::holds_alternative<double>(back.find("x")->value)) << value;
    EXPECT_EQ(std::get<double>(back.find("x")->value), value);
  }
}

}  // namespace
}  // namespace switchyard
