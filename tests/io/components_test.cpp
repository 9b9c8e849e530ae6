// Every component of tokenizer.json against what Hugging Face tokenizers makes of it: see tests/data/tokenizers/README.md.
#include "base/files.h"
#include "io/tokenizer/tokenizer.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace switchyard::components_tests {
namespace {

using nlohmann::json;

const std::string kFolder = std::string(SW_TEST_DATA) + "/tokenizers/";

json tokenizer_json(const std::string& style) { return json::parse(read_text_file(kFolder + style + "/tokenizer.json")); }

// The character map is not repeated in every configuration.
void fill_in_charsmap(json& component) {
  static const json map = tokenizer_json("t5_spm")["normalizer"]["normalizers"][0]["precompiled_charsmap"];
  if (component.is_object() && component.value("type", "") == "Precompiled") component["precompiled_charsmap"] = map;
  if (component.is_structured())
    for (auto& inner : component) fill_in_charsmap(inner);
}

TEST(Components, EqualTheLibrary) {
  const json file = json::parse(read_text_file(kFolder + "components.json"));
  int compared = 0, decoded = 0;
  for (const json& configuration : file.at("configurations")) {
    const std::string style = configuration.at("style");
    json described = file.at("bases").contains(style) ? file.at("bases").at(style) : tokenizer_json(style);
    for (const auto& [path, value] : configuration.at("set").items()) described[json::json_pointer(path)] = value;
    fill_in_charsmap(described["normalizer"]);
    SCOPED_TRACE(style + " " + configuration.at("set").dump());
    const auto tokenizer = parse_tokenizer(described.dump(), style);
    const auto again = parse_tokenizer(tokenizer->to_json().dump(), "written");
    for (const json& test : configuration.at("cases")) {
      const auto& text = test.at("text").get_ref<const std::string&>();
      const auto ids = test.at("ids").get<std::vector<int32_t>>();
      EXPECT_EQ(tokenizer->encode(text, true), ids) << text;
      EXPECT_EQ(again->encode(text, true), ids) << text;
      ++compared;
      if (!test.contains("decoded")) continue;  // it has U+FFFD for bytes that we give back
      EXPECT_EQ(tokenizer->decode(ids), test.at("decoded")) << text;
      EXPECT_EQ(tokenizer->decode(ids, false), test.at("decoded_with_special")) << text;
      ++decoded;
    }
  }
  EXPECT_GE(compared, 800);
  EXPECT_GE(decoded, 600);
}

}  // namespace
}  // namespace switchyard::components_tests
