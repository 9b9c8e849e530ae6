// Real weights, when `make fetch-models` has brought them: values that a plain forward pass in another language gave (float32).
#include "base/files.h"
#include "expect_error.h"
#include "infer/generate.h"
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

}  // namespace pretrained
}  // namespace
}  // namespace switchyard::testing
