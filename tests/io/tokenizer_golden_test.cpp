// Equality with Hugging Face tokenizers on recorded cases: see tests/data/tokenizers/README.md.
#include "base/files.h"
#include "io/tokenizer/tokenizer.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace switchyard {
namespace {

using nlohmann::json;

class GoldenTokenizer : public ::testing::TestWithParam<const char*> {};

TEST_P(GoldenTokenizer, GivesTheSameIdsAndTexts) {
  const std::string folder = std::string(SW_TEST_DATA) + "/tokenizers/" + GetParam();
  const auto tokenizer = load_tokenizer(folder);
  const json golden = json::parse(read_text_file(folder + "/cases.json"));
  EXPECT_EQ(tokenizer->vocab_size(), golden.at("vocab_size"));
  EXPECT_GE(golden.at("cases").size(), 100U);
  // The writer's file means the same.
  const auto again = parse_tokenizer(tokenizer->to_json().dump(), "written");
  for (const json& test : golden.at("cases")) {
    const auto& text = test.at("text").get_ref<const std::string&>();
    const auto with_template = test.at("ids").get<std::vector<int32_t>>();
    const auto plain = test.at("ids_no_template").get<std::vector<int32_t>>();
    for (const Tokenizer* one : {tokenizer.get(), again.get()}) {
      EXPECT_EQ(one->encode(text, true), with_template) << test.dump();
      EXPECT_EQ(one->encode(text), plain) << test.dump();
      EXPECT_EQ(one->decode(with_template), test.at("decoded")) << test.dump();
      EXPECT_EQ(one->decode(with_template, false), test.at("decoded_with_special")) << test.dump();
      EXPECT_EQ(one->decode(plain, false), test.at("decoded_no_template")) << test.dump();
    }
    // The library lists unknown text, and the white space that an added token swallowed, as they are.
    for (size_t i = 0; i < with_template.size(); ++i) {
      const auto& token = test.at("tokens")[i].get_ref<const std::string&>();
      auto id = tokenizer->token_to_id(token);
      if (!id && token.ends_with("<mask>")) id = tokenizer->token_to_id("<mask>");
      EXPECT_EQ(id ? id : tokenizer->token_to_id("<unk>"), with_template[i]);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Styles, GoldenTokenizer, ::testing::Values("gpt2", "llama3", "qwen2", "o200k", "deepseek", "llama_sp", "llama_spm", "mistral_sp_noprefix",
                                           "t5_unigram", "nllb_unigram", "t5_spm", "unigram_bytefallback"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace switchyard
