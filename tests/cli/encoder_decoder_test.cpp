// The program and models of two stacks: what works, and what refuses them.
#include "run_program.h"

#include <nlohmann/json.hpp>

#include <fstream>

namespace switchyard {
namespace {

using nlohmann::json;
using testing::run_program;
using testing::TempDir;

std::string golden(const std::string& name) { return "'" + std::string(SW_TEST_DATA) + "/golden/" + name + "'"; }

TEST(EncoderDecoderVerbs, GenerateAnswersASource) {
  const auto done = run_program("generate " + golden("switch_transformers") + " --source-ids 5,9,33,17 --temperature 0 --max-tokens 3 --ignore-eos --json");
  ASSERT_EQ(done.code, 0) << done.err;
  const auto out = json::parse(done.out);
  EXPECT_EQ(out["prompt_ids"], (std::vector<int>{0}));  // decoder_start_token_id
  EXPECT_EQ(out["ids"].size(), 3u);
  const auto longer = run_program("generate " + golden("nllb-moe") + " --source-ids 5,9,33,17 --ids 2,40 --temperature 0 --max-tokens 3 --ignore-eos --json");
  ASSERT_EQ(longer.code, 0) << longer.err;
  EXPECT_EQ(json::parse(longer.out)["prompt_ids"], (std::vector<int>{2, 40}));
}

TEST(EncoderDecoderVerbs, WhatIsMissingIsSaid) {
  const auto no_source = run_program("generate " + golden("switch_transformers"));
  EXPECT_EQ(no_source.code, 2);
  SW_EXPECT_HAS(no_source.err, "--source");
  const auto no_tokenizer = run_program("generate " + golden("switch_transformers") + " --source Hello");
  EXPECT_EQ(no_tokenizer.code, 4);
  SW_EXPECT_HAS(no_tokenizer.err, "--source-ids");
  const auto no_encoder = run_program("generate " + golden("llama") + " --source-ids 5 --ids 3");
  EXPECT_EQ(no_encoder.code, 2);
  SW_EXPECT_HAS(no_encoder.err, "no encoder");
  const auto no_text = run_program("forward --model " + golden("switch_transformers") + " --input " + golden("llama") + "/reference.safetensors --output /dev/null/x");
  EXPECT_EQ(no_text.code, 4);
  SW_EXPECT_HAS(no_text.err, "decoder_input_ids");
}

TEST(EncoderDecoderVerbs, ForwardWritesBothStacks) {
  const TempDir dir;
  const auto done = run_program("forward --model " + golden("switch_transformers") + " --input " + golden("switch_transformers") + "/reference.safetensors --output '" +
                                (dir / "out.safetensors").string() + "'");
  ASSERT_EQ(done.code, 0) << done.err;
  const auto names = run_program("inspect '" + (dir / "out.safetensors").string() + "' --tensors");
  for (const char* name : {"encoder.last_hidden_state", "encoder.moe.1.combine", "decoder.moe.3.topk_index", "decoder.hidden_states.4"}) SW_EXPECT_HAS(names.out, name);
}

TEST(EncoderDecoderVerbs, ParamsAndInspectReadThem) {
  const auto count = run_program("params " + golden("switch_transformers") + " --json");
  ASSERT_EQ(count.code, 0) << count.err;
  EXPECT_EQ(json::parse(count.out)["total"], 83456);  // as the library that wrote the folder counts
  EXPECT_EQ(run_program("inspect " + golden("nllb-moe")).code, 0);
  const auto preset = run_program("params nllb-moe-54b --json");
  ASSERT_EQ(preset.code, 0) << preset.err;
  EXPECT_EQ(json::parse(preset.out)["total"], 54500569088);
}

TEST(EncoderDecoderVerbs, TrainAndMeasuresRefuseThemWithAReason) {
  const TempDir dir;
  const auto train = run_program("train nllb-moe-54b --scale tiny --out '" + (dir / "run").string() + "'");
  EXPECT_EQ(train.code, 5) << train.err;
  SW_EXPECT_HAS(train.err, "encoder");
  EXPECT_FALSE(std::filesystem::exists(dir / "run"));
  const auto eval = run_program("eval " + golden("switch_transformers"));
  EXPECT_NE(eval.code, 0);
}

}  // namespace
}  // namespace switchyard
