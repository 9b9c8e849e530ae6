#include "steps/recipe.h"

#include "base/files.h"
#include "expect_error.h"
#include "test_files.h"

#include <gtest/gtest.h>

namespace switchyard {
namespace {

using testing::expect_error;

constexpr const char* kRecipe = R"(seed = 4

[data]
path = "corpus.txt"

[tokenizer]
kind = "byte"

[model]
d_model = 32
num_heads = 2
d_ff = 64

[model.moe]
num_experts = 4
gate = { kind = "top_k", k = 2 }
losses = [{ kind = "load_balance", weight = 0.01 }]

[train]
steps = 20
optimizer = { lr = 0.002 }
)";

Recipe load_text(const testing::TempDir& dir, const std::string& text, std::vector<std::string> overrides = {}) {
  write_file_atomic(dir / "mine.toml", text);
  return load_recipe(dir / "mine.toml", overrides);
}

std::string with(const std::string& line) { return kRecipe + line + "\n"; }

TEST(Recipe, ReadsKeysAndKeepsDefaults) {
  const testing::TempDir dir;
  const Recipe recipe = load_text(dir, kRecipe);
  EXPECT_EQ(recipe.name, "mine");
  EXPECT_EQ(recipe.seed, 4);
  EXPECT_EQ(recipe.train.steps, 20);
  EXPECT_EQ(recipe.train.optimizer.lr, 0.002);
  EXPECT_EQ(recipe.train.optimizer.beta1, OptimizerOptions{}.beta1);
  EXPECT_EQ(resolved_model(recipe).vocab_size, 257);
}

TEST(Recipe, PathsInTheFileAreRelativeToItAndOverridesToTheWorkingDirectory) {
  const testing::TempDir dir;
  EXPECT_EQ(load_text(dir, kRecipe).data.path, (dir / "corpus.txt").string());
  EXPECT_EQ(load_text(dir, kRecipe, {"data.path=other.txt"}).data.path, (std::filesystem::current_path() / "other.txt").string());
}

TEST(Recipe, OverridesWin) {
  const testing::TempDir dir;
  const Recipe recipe = load_text(dir, kRecipe, {"train.steps=7", "model.moe.gate.k=1", "model.moe.gate.renormalise=false", "name=other"});
  EXPECT_EQ(recipe.train.steps, 7);
  EXPECT_EQ(recipe.name, "other");
}

TEST(Recipe, FullFormReadsBackEqual) {
  const testing::TempDir dir;
  const std::string full = show_recipe(load_text(dir, kRecipe));
  EXPECT_NE(full.find("beta2 = 0.95"), std::string::npos) << full;
  EXPECT_EQ(show_recipe(load_text(dir, full)), full);
}

TEST(Recipe, TheBenchHasSizesOfItsOwn) {
  const testing::TempDir dir;
  const Recipe recipe = load_text(dir, with("[bench]\ntags = 2\nset = [\"model.moe.gate.k=1\", \"model.moe.gate.renormalise=false\", \"model.moe.losses.0.weight=1\", "
                                            "\"model.moe.capacity.factor=2\"]"));
  const MoESpec moe = bench_moe(recipe);
  const auto k_of = [](const MoESpec& m) { return std::get<int64_t>(m.gate.options.find("k")->value); };
  EXPECT_EQ(k_of(moe), 1);
  EXPECT_EQ(k_of(*recipe.model.moe), 2) << "the recipe itself is as it was";
  EXPECT_EQ(moe.capacity.factor, 2);
  EXPECT_EQ(recipe.bench.tags, 2);
  EXPECT_EQ(bench_moe(load_text(dir, kRecipe)).capacity.factor, 0);
  const auto refused = [&](std::initializer_list<std::string_view> words, const std::string& set) {
    expect_error(ErrorKind::config, words, [&] { (void)load_text(dir, with("[bench]\nset = [\"" + set + "\"]")); });
  };
  refused({"bench.set", "train.steps=3", "model.moe.gate"}, "train.steps=3");
  refused({"bench.set", "model.moe.num_experts=4"}, "model.moe.num_experts=4");
  refused({"bench.set", "model.moe.gate"}, "model.moe.gate");
  refused({"bench.set", "'3' is no index"}, "model.moe.losses.3.weight=1");
  refused({"'facto'", "did you mean 'factor'"}, "model.moe.capacity.facto=1");
  expect_error(ErrorKind::config, {"mine.toml:23", "bench.tags = 3", "divisor of 8"}, [&] { (void)load_text(dir, with("[bench]\ntags = 3")); });
}

TEST(Recipe, ListsOfLayersAreSetPrintedAndReadBack) {
  const testing::TempDir dir;
  write_file_atomic(dir / "counts.txt", "3\n2\n1\n");
  std::string text = kRecipe;
  text.replace(text.find("d_ff = 64"), 9, R"(d_ff = 64
num_layers = 3
pattern = ["attention+dense", "moe", { kind = "moe", moe = { gate = { kind = "hash", table = "balanced", file = "counts.txt" } } }])");
  const Recipe recipe = load_text(dir, text, {"model.pattern.1.d_expert=24", "model.moe.losses=[]"});
  EXPECT_EQ(recipe.model.pattern[1].kind, "moe");
  EXPECT_EQ(recipe.model.pattern[1].d_expert, 24);
  const auto* gate = recipe.model.pattern[2].moe.find("gate");
  ASSERT_TRUE(gate);
  EXPECT_EQ(*gate->find("file")->string(), (dir / "counts.txt").string()) << "as every path of a recipe";
  const std::string full = show_recipe(load_text(dir, kRecipe, {R"(model.pattern=["attention", {kind="moe", d_expert=24}, "dense"])"}));
  EXPECT_NE(full.find("pattern = ["), std::string::npos) << full;
  EXPECT_EQ(show_recipe(load_text(dir, full)), full);
}

TEST(Recipe, UnknownKeysAreErrorsWithLineAndNearestName) {
  const testing::TempDir dir;
  expect_error(ErrorKind::config, {"mine.toml:22", "step_count", "train"}, [&] { (void)load_text(dir, with("step_count = 1")); });
  expect_error(ErrorKind::config, {"mine.toml:22", "'bach_size'", "did you mean 'batch_size'"},
               [&] { (void)load_text(dir, with("bach_size = 1")); });
  expect_error(ErrorKind::config, {"lrr", "train.optimizer"}, [&] { (void)load_text(dir, kRecipe, {"train.optimizer.lrr=1"}); });
  expect_error(ErrorKind::config, {"topk", "did you mean 'top_k'"}, [&] { (void)load_text(dir, kRecipe, {"model.moe.gate=topk"}); });
  expect_error(ErrorKind::config, {"wait"}, [&] { (void)load_text(dir, kRecipe, {"model.moe.losses.0.wait=1"}); });
}

TEST(Recipe, WrongValuesAreRefusedBeforeWorkBegins) {
  const testing::TempDir dir;
  const auto refused = [&](const char* assignment, std::initializer_list<std::string_view> words) {
    expect_error(ErrorKind::config, words, [&] { (void)load_text(dir, kRecipe, {assignment}); });
  };
  refused("train.steps=0", {"train.steps = 0", "at least 1"});
  refused("train.batch_size=10000000000.5", {"train.batch_size", "an integer"});
  refused("train.micro_batch=5", {"train.micro_batch = 5", "divisor", "16"});
  refused("train.schedule.kind=cosin", {"train.schedule.kind", "cosine"});
  refused("train.compute=float64", {"train.compute", "bfloat16"});
  refused("train.optimizer.beta1=1", {"train.optimizer.beta1 = 1"});
  refused("train.seq_len=4096", {"train.seq_len = 4096", "max_positions"});
  refused("data.validation_fraction=1.5", {"data.validation_fraction"});
  refused("model.moe.num_experts=1", {"num_experts"});
  refused("model.num_heads=3", {"num_heads"});
  refused("tokenizer.kind=file", {"tokenizer.path"});
  refused("model.vocab_size=100", {"model.vocab_size = 100", "257"});
}

TEST(Recipe, AWrongValueInTheFileIsReportedWithItsLine) {
  const testing::TempDir dir;
  expect_error(ErrorKind::config, {"mine.toml:22:", "train.grad_clip = -1"}, [&] { (void)load_text(dir, with("grad_clip = -1.0")); });
}

}  // namespace
}  // namespace switchyard
