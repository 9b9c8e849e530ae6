#include "infer/generate.h"

#include "expect_error.h"
#include "io/safetensors.h"
#include "io/tokenizer/tokenizer.h"
#include "models/small_specs.h"
#include "switchyard/checkpoint.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

namespace switchyard {
namespace {

using testing::expect_error;

// Bytes in, bytes out.
ModelSpec small_spec() {
  ModelSpec spec = testing::small_spec();
  spec.vocab_size = 257;
  spec.max_positions = 40;
  return spec.resolved();
}

GenerateOptions greedy(int64_t max_tokens) {
  GenerateOptions options;
  options.max_tokens = max_tokens;
  options.sampling.temperature = 0;
  options.ignore_eos = true;
  return options;
}

std::vector<int32_t> recorded(const std::string& folder, const char* name) {
  const auto file = SafetensorsFile::open(std::string(SW_TEST_DATA) + "/golden/" + folder + "/reference.safetensors");
  const TensorEntry& ids = *file.find(name);
  std::vector<int64_t> wide(static_cast<size_t>(ids.numel()));
  std::memcpy(wide.data(), ids.bytes.data(), ids.bytes.size());
  return {wide.begin(), wide.end()};
}

std::vector<int32_t> golden_ids(const std::string& name) { return recorded(name, "generated_ids"); }

TEST(Generate, NeverDrawsARowBehindTheVocabularyOfTheTokenizer) {
  auto spec = small_spec();
  spec.vocab_size = 400;
  LanguageModel model(spec, 3);
  const auto tokenizer = make_byte_tokenizer();  // 257 tokens
  auto options = greedy(30);
  options.sampling.temperature = 50;  // nearly uniform: 36 % of the rows stand for no text
  for (const int32_t id : generate(model, tokenizer.get(), std::vector<int32_t>{7, 1}, options).ids) EXPECT_LT(id, 257);
}

// Oracle: what Hugging Face transformers writes for the source.
TEST(Generate, AModelWithAnEncoderAnswersItsSource) {
  for (const char* folder : {"switch_transformers", "nllb-moe"}) {
    const auto checkpoint = load_checkpoint(std::string(SW_TEST_DATA) + "/golden/" + folder);
    const auto expected = recorded(folder, "generated_ids");
    auto options = greedy(16);
    options.source = recorded(folder, "prompt_ids");
    const std::vector<int32_t> start = {expected.front()};
    EXPECT_EQ(generate(*checkpoint.model, nullptr, start, options).ids, std::vector<int32_t>(expected.begin() + 1, expected.end())) << folder;
    options.ignore_eos = false;
    options.end_id = expected[3];
    const auto ended = generate(*checkpoint.model, nullptr, start, options);
    EXPECT_EQ(ended.finish_reason, "eos");
    EXPECT_EQ(ended.ids.back(), expected[3]);
    EXPECT_LE(ended.ids.size(), 3u);
    options.source.clear();
    expect_error(ErrorKind::usage, {"encoder", "source"}, [&] { (void)generate(*checkpoint.model, nullptr, start, options); });
  }
  LanguageModel alone(small_spec(), 3);
  auto options = greedy(2);
  options.source = {1};
  expect_error(ErrorKind::usage, {"source", "no encoder"}, [&] { (void)generate(alone, nullptr, std::vector<int32_t>{7}, options); });
}

// Oracle: the whole sequence again for every token, without a cache.
TEST(Generate, GreedyEqualsArgmaxOfTheFullForward) {
  LanguageModel model(small_spec(), 3);
  std::vector<int32_t> ids = {7, 1, 200};
  const Generated got = generate(model, nullptr, ids, greedy(20));
  ASSERT_EQ(got.ids.size(), 20u);
  model.eval();
  const torch::NoGradGuard no_grad;
  for (const int32_t id : got.ids) {
    const auto input = torch::tensor(std::vector<int64_t>(ids.begin(), ids.end()), torch::kInt64).unsqueeze(0);
    const auto logits = model.logits(model.forward({input, {}, {}}).hidden)[0][-1];
    EXPECT_EQ(id, logits.argmax().item<int64_t>()) << "after " << ids.size() << " tokens";
    ids.push_back(id);
  }
}

// Recorded from Hugging Face transformers: tests/data/golden/README.md.
TEST(Generate, GreedyEqualsTheGoldenTokens) {
  for (const std::string name : {"mixtral", "mixtral-sharded", "llama"}) {
    const auto checkpoint = load_checkpoint(std::string(SW_TEST_DATA) + "/golden/" + name);
    const auto want = golden_ids(name);
    const std::vector<int32_t> prompt(want.begin(), want.begin() + 4);
    const Generated got = generate(*checkpoint.model, nullptr, prompt, greedy(16));
    EXPECT_EQ(got.ids, std::vector<int32_t>(want.begin() + 4, want.end())) << name;
    EXPECT_EQ(got.finish_reason, "length");
  }
}

TEST(Generate, TheSeedDecides) {
  LanguageModel model(small_spec(), 3);
  GenerateOptions options = greedy(16);
  options.sampling.temperature = 1.0;
  const std::vector<int32_t> prompt = {7};
  const auto first = generate(model, nullptr, prompt, options).ids;
  EXPECT_EQ(generate(model, nullptr, prompt, options).ids, first);
  options.seed = 1;
  EXPECT_NE(generate(model, nullptr, prompt, options).ids, first);
}

TEST(Generate, EndsAtTheLongestSequenceOfTheModel) {
  LanguageModel model(small_spec(), 3);
  const std::vector<int32_t> prompt(30, 5);
  const Generated got = generate(model, nullptr, prompt, greedy(100));
  EXPECT_EQ(got.ids.size(), 10u);
  EXPECT_EQ(got.finish_reason, "length");
}

TEST(Generate, StreamsTheTextThatItReturnsAndCanBeCancelled) {
  LanguageModel model(small_spec(), 3);
  const auto tokenizer = make_byte_tokenizer();
  std::string streamed;
  int64_t calls = 0;
  const Generated got = generate(model, tokenizer.get(), prompt_ids(*tokenizer, "abc"), greedy(20), [&](int32_t, std::string_view text) {
    streamed += text;
    return ++calls < 12;
  });
  EXPECT_EQ(got.finish_reason, "cancelled");
  EXPECT_EQ(got.ids.size(), 12u);
  EXPECT_EQ(got.text.substr(0, streamed.size()), streamed);
}

TEST(Generate, EndsBeforeAStopString) {
  LanguageModel model(small_spec(), 3);
  const auto tokenizer = make_byte_tokenizer();
  const auto prompt = prompt_ids(*tokenizer, "abc");
  GenerateOptions options = greedy(20);
  std::string all;
  for (const int32_t id : generate(model, tokenizer.get(), prompt, options).ids) all += tokenizer->decode(std::vector<int32_t>{id});
  options.stop = {all.substr(5, 2)};
  const Generated got = generate(model, tokenizer.get(), prompt, options);
  EXPECT_EQ(got.finish_reason, "stop");
  EXPECT_EQ(got.ids.size(), all.find(options.stop[0]) + 2) << "one token per byte";
  EXPECT_EQ(got.text.find(options.stop[0]), std::string::npos);
}

// With all logits equal every token is equally likely; among 60 runs of 39 draws from 257 tokens some meet the end token.
TEST(Generate, EndsAtTheEndTokenUnlessToldOtherwise) {
  LanguageModel model(small_spec(), 3);
  const auto tokenizer = make_byte_tokenizer();
  const torch::NoGradGuard no_grad;
  for (auto& item : model.named_parameters())
    if (item.value().dim() == 2 && item.value().size(0) == 257) item.value().zero_();
  GenerateOptions options = greedy(39);
  options.sampling.temperature = 1.0;
  int64_t ended = 0;
  for (options.seed = 0; options.seed < 60; ++options.seed) {
    options.ignore_eos = false;
    const Generated got = generate(model, tokenizer.get(), std::vector<int32_t>{65}, options);
    const bool has_end = std::find(got.ids.begin(), got.ids.end(), 256) != got.ids.end();
    EXPECT_EQ(got.finish_reason, has_end ? "eos" : "length");
    if (!has_end) continue;
    ++ended;
    EXPECT_EQ(got.ids.back(), 256);
    options.ignore_eos = true;
    EXPECT_EQ(generate(model, tokenizer.get(), std::vector<int32_t>{65}, options).ids.size(), 39u);
  }
  EXPECT_GT(ended, 0);
}

TEST(Generate, LeavesTheModelInItsMode) {
  LanguageModel model(small_spec(), 3);
  model.train();
  static_cast<void>(generate(model, nullptr, std::vector<int32_t>{1}, greedy(1)));
  EXPECT_TRUE(model.is_training());
}

TEST(Generate, RefusesWhatCannotBe) {
  LanguageModel model(small_spec(), 3);
  const auto run = [&](std::vector<int32_t> prompt, GenerateOptions options) { static_cast<void>(generate(model, nullptr, prompt, options)); };
  expect_error(ErrorKind::usage, {"prompt is empty"}, [&] { run({}, greedy(1)); });
  expect_error(ErrorKind::usage, {"id 257", "vocabulary of 257"}, [&] { run({1, 257}, greedy(1)); });
  expect_error(ErrorKind::usage, {"40 tokens", "at most 40"}, [&] { run(std::vector<int32_t>(40, 1), greedy(1)); });
  expect_error(ErrorKind::usage, {"max_tokens = -1"}, [&] { run({1}, greedy(-1)); });
  GenerateOptions stop = greedy(1);
  stop.stop = {"x"};
  expect_error(ErrorKind::usage, {"stop strings need a tokenizer"}, [&] { run({1}, stop); });
}

TEST(Generate, AnEmptyPromptStartsADocument) {
  const auto tokenizer = make_byte_tokenizer();
  EXPECT_EQ(prompt_ids(*tokenizer, ""), std::vector<int32_t>{256});
  EXPECT_EQ(prompt_ids(*tokenizer, "a"), std::vector<int32_t>{97});
}

}  // namespace
}  // namespace switchyard
