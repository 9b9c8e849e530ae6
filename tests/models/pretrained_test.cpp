// Real weights, when `make fetch-models` has brought them: values that a plain forward pass in another language gave (float32).
#include "base/files.h"
#include "expect_error.h"
#include "infer/generate.h"
#include "io/tokenizer/tokenizer.h"
#include "models/convert.h"
#include "models/golden.h"
#include "test_files.h"

namespace switchyard::testing {
namespace {
namespace pretrained {

namespace fs = std::filesystem;

// The folder without its tokenizer, so that nothing depends on which kinds of tokenizers this build reads.
void copy_weights(const fs::path& from, const fs::path& to) {
  fs::create_directory(to);
  fs::create_symlink(fs::absolute(from) / "model.safetensors", to / "model.safetensors");
  fs::copy_file(from / "config.json", to / "config.json");
}

TEST(Pretrained, StoriesModelSaysWhatItSaysElsewhere) {
  const fs::path folder = fs::path(SW_SOURCE_DIR) / "runs/models/stories15M";
  if (!fs::exists(folder / "config.json")) GTEST_SKIP() << folder << " is not there: make fetch-models brings it";
  const TempDir dir;
  copy_weights(folder, dir / "m");
  const auto loaded = load_checkpoint(dir / "m");
  const torch::NoGradGuard no_grad;
  loaded.model->eval();
  const auto ids = torch::tensor({1, 9038, 2501, 263, 931}, torch::kInt64).view({1, 5});
  const auto logits = loaded.model->logits(loaded.model->forward({ids, {}, {}}).hidden).select(1, 4).flatten();
  EXPECT_TRUE(close_to(logits.narrow(0, 0, 6), torch::tensor({-10.420871, 0.46192697, -10.420831, -10.420973, -10.421052, -10.420976}), 2e-4, 1e-4));
  EXPECT_EQ(logits.argmax().item<int64_t>(), 29892);
  EXPECT_NEAR(logits.max().item<double>(), 18.359756, 1e-3);

  GenerateOptions options;
  options.max_tokens = 20;
  options.sampling.temperature = 0;
  const std::vector<int32_t> prompt{1, 9038, 2501, 263, 931};
  const std::vector<int32_t> want{29892, 727, 471, 263, 2217, 7826, 4257, 365, 2354, 29889, 2296, 18012, 304, 1708, 5377, 297, 278, 6575, 845, 457};
  EXPECT_EQ(generate(*loaded.model, nullptr, prompt, options).ids, want);

  ConvertOptions quantise;  // 288 is a multiple of 32: Q8_0 fits, and says the same story
  quantise.quantize = io::GgmlType::q8_0;
  plan_conversion(dir / "m", dir / "q8.gguf", quantise).write({});
  EXPECT_EQ(generate(*load_checkpoint(dir / "q8.gguf").model, nullptr, prompt, options).ids, want);
}

// A person's file: 1.1 billion weights in two bits (IQ2_XXS, Q2_K, Q4_K, Q5_K), tokenizer from the metadata alone. 2.48 nats per token on
// this passage; a model whose blocks were decoded wrongly, or whose rows stood in the wrong order, has 10 or more (ln 32000 = 10.4).
TEST(Pretrained, TinyLlamaReadsEnglish) {
  const fs::path file = fs::path(SW_SOURCE_DIR) / "runs/models/tinyllama.gguf";
  if (!fs::exists(file)) GTEST_SKIP() << file << " is not there: make fetch-models FETCH=tinyllama brings it";
  const auto loaded = load_checkpoint(file);
  ASSERT_TRUE(loaded.tokenizer);
  const std::string passage =
      "The sun was low when the two men reached the village. They had walked all day through the hills, and the older one was tired and wanted to "
      "rest. A woman stood at the door of the first house and watched them come up the road. She asked where they were going, and they told her that "
      "they hoped to reach the sea before the end of the week. She gave them bread and water, and they sat down on the bench in front of the house "
      "and talked about the weather, the harvest, and the long winter that had just passed.";
  const auto ids = loaded.tokenizer->encode(passage, true);
  EXPECT_EQ(ids.front(), 1);  // <s>
  const torch::NoGradGuard no_grad;
  loaded.model->eval();
  const torch::Tensor tokens = torch::tensor(std::vector<int64_t>(ids.begin(), ids.end()), torch::kInt64).view({1, -1});
  const auto logits = loaded.model->logits(loaded.model->forward({tokens, {}, {}}).hidden).select(0, 0);
  const auto n = static_cast<int64_t>(ids.size()) - 1;
  const auto next = tokens.select(0, 0).narrow(0, 1, n).unsqueeze(1);
  const auto loss = -torch::log_softmax(logits.narrow(0, 0, n), -1).gather(1, next).mean().item<double>();
  RecordProperty("loss", std::to_string(loss));
  EXPECT_LT(loss, 4.5);
  EXPECT_GT(loss, 1.5);
}

}  // namespace pretrained
}  // namespace
}  // namespace switchyard::testing
