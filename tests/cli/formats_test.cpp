// inspect, convert and chat on files: what a person and a script see.
#include "cli/run_program.h"

#include <nlohmann/json.hpp>

namespace switchyard::testing {
namespace {
namespace formats {

using nlohmann::json;

const std::string kGolden = SW_TEST_DATA "/golden/";

TEST(FormatsVerbs, ConvertWritesGgufThatInspectShows) {
  const TempDir dir;
  const std::string file = (dir / "m.gguf").string();
  const auto dry = run_program("convert " + kGolden + "mixtral " + file + " --dry-run --json");
  ASSERT_EQ(dry.code, 0) << dry.err;
  EXPECT_FALSE(std::filesystem::exists(file));
  EXPECT_EQ(json::parse(dry.out)["written"], false);
  ASSERT_EQ(run_program("convert " + kGolden + "mixtral " + file).code, 0);
  const auto shown = run_program("inspect " + file + " --json --tensors");
  ASSERT_EQ(shown.code, 0) << shown.err;
  const auto summary = json::parse(shown.out);
  EXPECT_EQ(summary["model_type"], "llama");
  EXPECT_TRUE(summary["metadata"]["llama.expert_count"].is_number());
  EXPECT_EQ(summary["tensors"].size(), json::parse(dry.out)["tensors"].size());
  for (size_t i = 0; i < summary["tensors"].size(); ++i) {
    EXPECT_EQ(summary["tensors"][i]["name"], json::parse(dry.out)["tensors"][i]["name"]);
    EXPECT_EQ(summary["tensors"][i]["shape"], json::parse(dry.out)["tensors"][i]["shape"]);
  }
  SW_EXPECT_HAS(run_program("inspect " + file).out, "general.architecture = \"llama\"");
  const auto again = run_program("convert " + kGolden + "mixtral " + file);
  EXPECT_EQ(again.code, 2);
  SW_EXPECT_HAS(again.err, "exists");
}

TEST(FormatsVerbs, GeneratingFromGgufIsGeneratingFromTheFolder) {
  const TempDir dir;
  const std::string file = (dir / "m.gguf").string(), options = " --ids 1,2,3 --ignore-eos --temperature 0 --max-tokens 8";
  ASSERT_EQ(run_program("convert " + kGolden + "llama " + file).code, 0);
  const auto a = run_program("generate " + kGolden + "llama" + options), b = run_program("generate " + file + options);
  ASSERT_EQ(a.code, 0) << a.err;
  EXPECT_EQ(a.out, b.out) << b.err;
}

TEST(FormatsVerbs, WrongWordsAndDamagedFilesHaveTheirCodes) {
  const TempDir dir;
  const auto format = run_program("convert " + kGolden + "llama " + (dir / "x.gguf").string() + " --quantize Q9");
  EXPECT_EQ(format.code, 2);
  SW_EXPECT_HAS(format.err, "Q4_K");
  std::ofstream(dir / "bad.gguf") << "GGUF\3";
  const auto damaged = run_program("inspect " + (dir / "bad.gguf").string());
  EXPECT_EQ(damaged.code, 4);
  SW_EXPECT_HAS(damaged.err, "bad.gguf");
  EXPECT_EQ(run_program("convert " + kGolden + "mixtral " + (dir / "y").string() + " --family llama").code, 5);
}

TEST(FormatsVerbs, ChatShowsThePromptOfTheTemplate) {
  const TempDir dir;
  std::filesystem::copy(kGolden + "llama", dir / "m");
  const auto plain = run_program("chat " + (dir / "m").string() + " --message Hi --system 'Be kind.' --show-prompt");
  EXPECT_EQ(plain.out, "system: Be kind.\nuser: Hi\nassistant:\n") << plain.err;
  SW_EXPECT_HAS(plain.err, "no chat_template");
  std::ofstream(dir / "m/tokenizer_config.json")
      << R"({"bos_token": "<s>", "chat_template": "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"})";
  const auto own = run_program("chat " + (dir / "m").string() + " --message Hi --show-prompt");
  EXPECT_EQ(own.out, "<s><user>Hi\n") << own.err;
  EXPECT_EQ(own.err, "");
  EXPECT_EQ(run_program("chat " + (dir / "m").string() + " --message Hi").code, 4);  // no tokenizer
}

}  // namespace formats
}  // namespace
}  // namespace switchyard::testing
