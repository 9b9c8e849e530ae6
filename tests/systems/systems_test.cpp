// systems.tsv is a promise, row by row: the files are there, the recipe trains, the named tests exist. That the named tests
// pass is the business of ctest, which runs every test program in the same run as this one.
#include "models/miniature.h"
#include "steps/train.h"
#include "systems/systems_table.h"
#include "systems/test_names.h"
#include "test_files.h"
#include "vision/task_recipe.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace switchyard::systems {
namespace {

namespace fs = std::filesystem;

TEST(SystemsTable, EveryRowIsCompleteAndEveryIdUnique) {
  ASSERT_FALSE(lines().empty());
  EXPECT_EQ(lines()[0], "id\tname\tkind\tref\tfiles\trecipe\ttests");
  std::set<std::string> ids;
  const std::set<std::string> kinds = {"gate", "expert", "model", "peft", "scheme", "derivative", "system", "storage", "application"};
  for (size_t i = 1; i < lines().size(); ++i) {
    const auto cells = split(lines()[i], '\t');
    ASSERT_EQ(cells.size(), 7u) << "systems.tsv:" << i + 1;
    for (const auto& cell : cells) EXPECT_FALSE(cell.empty()) << "systems.tsv:" << i + 1;
    EXPECT_TRUE(ids.insert(cells[0]).second) << "systems.tsv:" << i + 1 << ": " << cells[0] << " is there twice";
    EXPECT_TRUE(kinds.count(cells[2])) << "systems.tsv:" << i + 1 << ": kind '" << cells[2] << "'";
    for (const auto& ref : split(cells[3], ' '))  // "-": there is no paper
      EXPECT_TRUE(ref == "-" || ref.rfind("arXiv:", 0) == 0 || ref.rfind("doi:", 0) == 0) << "systems.tsv:" << i + 1 << ": " << ref;
  }
}

TEST(SystemsTable, EveryRecipeOfASystemHasItsRow) {
  std::set<std::string> known;
  for (const auto& row : rows()) known.insert(row.recipe);
  for (const char* folder : {"recipes/gates", "recipes/experts", "recipes/models", "recipes/systems"})
    for (const auto& entry : fs::recursive_directory_iterator(root() / folder)) {
      const std::string path = entry.path().lexically_relative(root()).generic_string();
      EXPECT_TRUE(entry.path().extension() != ".toml" || known.count(path)) << path;
    }
}

class EverySystem : public ::testing::TestWithParam<System> {};
INSTANTIATE_TEST_SUITE_P(Systems, EverySystem, ::testing::ValuesIn(rows()), [](const auto& info) { return test_name(info.param.id); });

TEST_P(EverySystem, FilesExist) {
  const auto& system = GetParam();
  for (const auto& file : split(system.files, ' ')) EXPECT_TRUE(fs::is_regular_file(root() / file)) << file;
  EXPECT_TRUE(fs::is_regular_file(root() / system.recipe)) << system.recipe;
  EXPECT_EQ(fs::path(system.recipe).stem(), system.id) << "a recipe is named by its id";
}

TEST_P(EverySystem, NamedTestsExist) {
  for (const auto& filter : split(GetParam().tests, ' ')) EXPECT_TRUE(some_test_matches(filter)) << "no test matches '" << filter << "'";
}

// Remembers the losses of the steps.
struct Losses : TrainObserver {
  void on_step(const StepMetrics& m) override { values.push_back(m.loss); }
  std::vector<double> values;
};

// What makes a recipe quick: little text, three steps. Of a published model its miniature trains.
Recipe quick(const System& system, const fs::path& text) {
  std::vector<std::string> set = {"data.path=\"" + text.string() + "\"", "tokenizer.kind=byte", "train.steps=3", "train.batch_size=2",
                                  "train.log_every=1", "train.eval_every=0", "train.checkpoint_every=0", "train.threads=1"};
  if (system.kind == "model") set.emplace_back("train.seq_len=64");
  Recipe recipe = load_recipe(root() / system.recipe, set);
  if (system.kind == "model") {
    recipe.model = miniature(recipe.model, expected_vocab_size(recipe.tokenizer));
    recipe.model.vocab_size = 0;
  }
  return recipe;
}

// A task on made-up data instead of a language model.
void take_three_steps_of_task(const fs::path& recipe) {
  const TaskRecipe shipped = load_task_recipe(recipe);
  std::vector<std::string> small;
  for (const FieldHelp& option : task_registry().find(shipped.task).options)
    for (const auto& [key, value] : {std::pair{"train_samples", "40"}, {"test_samples", "40"}, {"tuning_steps", "1"}})
      if (option.key == key) small.push_back(fmt::format("task.{}={}", key, value));
  const auto measures = task_registry().make(load_task_recipe(recipe, small).task)->run({.seed = 1, .steps = 3});
  EXPECT_FALSE(measures.empty());
  for (const Measure& m : measures) EXPECT_TRUE(std::isfinite(m.value)) << m.name;
}

TEST_P(EverySystem, RecipeTakesThreeTrainingSteps) {
  const auto& system = GetParam();
  if (is_task_recipe(root() / system.recipe)) return take_three_steps_of_task(root() / system.recipe);
  const testing::TempDir work;
  // The recipe as it stands is whole: its own text is there, and all of it fits together.
  const Recipe shipped = load_recipe(root() / system.recipe);
  EXPECT_TRUE(shipped.data.path.empty() || fs::exists(shipped.data.path)) << shipped.data.path;
  EXPECT_GT(count_parameters(resolved_model(shipped)).total, 0);

  std::string text;
  for (int i = 0; i < 200; ++i) text += "Line " + std::to_string(i * i) + " of a text that is short.\n";
  write_file_atomic(work / "text.txt", text);
  Losses losses;
  const Recipe recipe = quick(system, work / "text.txt");
  if (recipe.model.encoder) {  // its miniature runs in Presets; there are no pairs of texts to train it with
    EXPECT_THROW((void)train(recipe, {.folder = work / "run"}, losses), Error);
    return;
  }
  const auto result = train(recipe, {.folder = work / "run"}, losses);
  EXPECT_EQ(result.status, TrainStatus::finished);
  ASSERT_EQ(losses.values.size(), 3u);
  for (const double loss : losses.values) EXPECT_TRUE(std::isfinite(loss) && loss > 0) << loss;
}

// The numbers that the head comments of the recipes quote.
TEST(PublishedModels, HaveTheirPublishedParameterCounts) {
  const auto count = [](const char* recipe) { return count_parameters(resolved_model(load_recipe(root() / "recipes/models" / recipe))); };
  const auto small = count("mixtral-8x7b.toml"), large = count("mixtral-8x22b.toml");
  EXPECT_EQ(small.total, 46'702'792'704);
  EXPECT_EQ(small.active, 12'879'925'248);
  EXPECT_EQ(large.total, 140'620'634'112);
  EXPECT_EQ(large.active, 39'152'031'744);
}

TEST(TestNames, MatchLikeGoogleTestFilters) {
  EXPECT_TRUE(matches("LoadBalance.*", "LoadBalance.CanBeBelowOne"));
  EXPECT_TRUE(matches("*LoopOracle.*", "Sizes/LoopOracle.Equal/"));
  EXPECT_FALSE(matches("LoopOracle.*", "Sizes/LoopOracle.Equal/"));
  EXPECT_FALSE(matches("LoadBalance", "LoadBalance.CanBeBelowOne"));
  EXPECT_TRUE(matches("A.b?", "A.bc"));
  EXPECT_TRUE(some_test_matches("TestNames.MatchLikeGoogleTestFilters"));
  EXPECT_TRUE(some_test_matches("Systems/EverySystem.FilesExist/*"));
  EXPECT_FALSE(some_test_matches("No.SuchTest"));
}

}  // namespace
}  // namespace switchyard::systems
