// tokenizer and tokenize: a vocabulary is learnt, and text survives the way to ids and back.
#include "run_program.h"

#include <nlohmann/json.hpp>

#include <fstream>

namespace switchyard {
namespace {

using nlohmann::json;
using testing::Finished;
using testing::run_program;
using testing::TempDir;

TEST(TokenizeVerb, EncodesAndDecodesLines) {
  const TempDir dir;
  std::ofstream(dir / "corpus.txt") << "the cat sat on the mat, the hat sat on the cat\n";
  const std::string tokenizer = (dir / "tokenizer.json").string();
  const Finished made = run_program("tokenizer train --data " + (dir / "corpus.txt").string() + " --vocab-size 262 --output " + tokenizer);
  ASSERT_EQ(made.code, 0) << made.err;
  const std::vector<std::string> texts = {"the mat", "grüße 😀", ""};
  std::ofstream lines(dir / "texts.jsonl");
  for (const auto& text : texts) lines << json{{"text", text}} << "\n\n";
  lines.close();
  const std::string to = " --tokenizer " + tokenizer + " --input " + (dir / "texts.jsonl").string() + " --output " + (dir / "ids.jsonl").string();
  ASSERT_EQ(run_program("tokenize" + to).code, 0);
  const Finished back = run_program("tokenize --decode --tokenizer " + tokenizer + " --input " + (dir / "ids.jsonl").string());
  ASSERT_EQ(back.code, 0) << back.err;
  std::istringstream got(back.out);
  for (const auto& text : texts) {
    std::string line;
    ASSERT_TRUE(std::getline(got, line));
    EXPECT_EQ(json::parse(line).at("text"), text);
  }
}

TEST(TokenizeVerb, NamesTheLineThatIsWrong) {
  const TempDir dir;
  std::ofstream(dir / "texts.jsonl") << "{\"text\": \"a\"}\n{\"txt\": \"b\"}\n";
  const std::string tokenizer = std::string(SW_TEST_DATA) + "/tokenizers/gpt2";
  const Finished r = run_program("tokenize --tokenizer " + tokenizer + " --input " + (dir / "texts.jsonl").string() + " --output " + (dir / "ids").string());
  EXPECT_EQ(r.code, 4);
  SW_EXPECT_HAS(r.err, "texts.jsonl:2: expected a JSON object with the key 'text'");
  EXPECT_FALSE(std::filesystem::exists(dir / "ids")) << "nothing half done is left";
}

// The recorded ids of the tokenizers library, through the program.
TEST(TokenizeVerb, EqualsTheRecordedCases) {
  for (const std::string style : {"gpt2", "llama3", "llama_sp", "t5_spm", "nllb_unigram"}) {
    const TempDir dir;
    const auto folder = std::filesystem::path(SW_TEST_DATA) / "tokenizers" / style;
    const json cases = json::parse(testing::content_of(folder / "cases.json")).at("cases");
    std::ofstream lines(dir / "texts.jsonl");
    for (const auto& item : cases) lines << json{{"text", item.at("text")}} << "\n";
    lines.close();
    const Finished r = run_program("tokenize --tokenizer " + folder.string() + " --input " + (dir / "texts.jsonl").string());
    ASSERT_EQ(r.code, 0) << r.err;
    std::istringstream got(r.out);
    for (const auto& item : cases) {
      std::string line;
      ASSERT_TRUE(std::getline(got, line));
      EXPECT_EQ(json::parse(line).at("ids"), item.at("ids")) << style << ": " << item.at("text");
    }
  }
}

TEST(TokenizeVerb, ReadsSentencePieceAndTiktokenFiles) {
  const TempDir dir;
  std::ofstream(dir / "texts.jsonl") << json{{"text", "Hello world"}} << "\n";
  const std::string input = " --input " + (dir / "texts.jsonl").string();
  const auto data = std::filesystem::path(SW_TEST_DATA) / "tokenizers";
  const std::string model = (data / "llama_spm" / "tokenizer.model").string();
  // Without a template the .model and the tokenizer.json beside it agree.
  EXPECT_EQ(run_program("tokenize --tokenizer " + model + input).out, run_program("tokenize --no-template --tokenizer " + (data / "llama_spm").string() + input).out);

  std::ofstream ranks(dir / "own.tiktoken");
  for (const auto* line : {"SA== 0", "ZQ== 1", "bA== 2", "bw== 3", "IA== 4", "dw== 5", "cg== 6", "ZA== 7", "SGU= 8"}) ranks << line << "\n";  // H e l o _ w r d He
  ranks.close();
  const std::string own = "tokenize --tokenizer " + (dir / "own.tiktoken").string();
  EXPECT_EQ(json::parse(run_program(own + " --encoding cl100k_base" + input).out).at("ids"), (json{8, 2, 2, 3, 4, 5, 3, 6, 2, 7}));
  const Finished nameless = run_program(own + input);
  EXPECT_EQ(nameless.code, 5);
  SW_EXPECT_HAS(nameless.err, "cl100k_base");
  EXPECT_EQ(run_program(own + " --encoding nowhere" + input).code, 2);
}

}  // namespace
}  // namespace switchyard
