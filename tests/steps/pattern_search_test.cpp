// Random search over blocks (Brainformers, arXiv:2306.00008).
#include "steps/pattern_search.h"

#include "base/config_tree.h"
#include "expect_error.h"
#include "steps/tiny_run.h"

#include <gtest/gtest.h>

#include <set>

namespace switchyard::pattern_search_test {  // its own: tests of a folder compile as one unit
namespace {

Recipe recipe_of(const std::filesystem::path& text) {
  Recipe recipe = testing::tiny_recipe(text);
  recipe.model.dropout = 0;
  recipe.model.num_layers = 4;
  recipe.model.moe->every = 2;
  recipe.model.moe->offset = 1;
  recipe.train.eval_every = 0;
  return recipe;
}

TEST(PatternSearch, DrawsProgramsThatFitAndAreAFunctionOfTheSeed) {
  const ModelSpec base = [] {
    ModelSpec s = recipe_of("").model;
    s.vocab_size = 257;
    return s.resolved();
  }();
  const double limit = count_parameters(base).flops_per_token;
  std::set<std::string> distinct;
  for (int64_t number = 1; number <= 20; ++number) {
    const ModelSpec program = draw_program(base, 5, number);
    const auto printed = to_json(program.resolved());
    EXPECT_EQ(to_json(draw_program(base, 5, number).resolved()), printed);
    EXPECT_LE(count_parameters(program).flops_per_token, limit);
    EXPECT_GE(program.pattern.size(), 2u);
    const ModelSpec again = read_model_spec(config_from_json(printed, "spec"), "spec");
    EXPECT_EQ(count_parameters(again).total, count_parameters(program).total) << "printed and read, it is the same program";
    int64_t built = 0;
    for (const auto& p : LanguageModel(program, std::nullopt).parameters()) built += p.numel();
    EXPECT_EQ(built, count_parameters(program).total);
    distinct.insert(printed.dump());
  }
  EXPECT_GT(distinct.size(), 15u);
  EXPECT_NE(to_json(draw_program(base, 6, 1)), to_json(draw_program(base, 5, 1)));
}

TEST(PatternSearch, IsDeterministicSortsByLossAndGoesOnWhereItStopped) {
  const testing::TempDir dir;
  testing::write_text(dir / "text.txt", testing::tiny_text(120));
  const Recipe recipe = recipe_of(dir / "text.txt");
  testing::Recorder observer;
  const SearchOptions options{.programs = 2, .steps = 12, .seed = 3, .out = dir / "one"};
  const auto first = search_programs(recipe, options, observer);
  ASSERT_EQ(first.size(), 3u);
  for (size_t i = 1; i < first.size(); ++i) EXPECT_LE(first[i - 1].loss, first[i].loss);
  SearchOptions elsewhere = options;
  elsewhere.out = dir / "two";
  elsewhere.programs = 1;
  const auto second = search_programs(recipe, elsewhere, observer);
  for (const auto& p : second)
    for (const auto& q : first)
      if (q.recipe.name == p.recipe.name) { EXPECT_EQ(p.loss, q.loss) << p.recipe.name; }
  const size_t steps = observer.steps.size();
  const auto resumed = search_programs(recipe, elsewhere, observer);
  EXPECT_EQ(observer.steps.size(), steps) << "finished runs stay";
  for (size_t i = 0; i < resumed.size(); ++i) EXPECT_EQ(resumed[i].loss, second[i].loss);
}

TEST(PatternSearch, WhatMakesNoSenseIsRefused) {
  ModelSpec dense = recipe_of("").model;
  dense.vocab_size = 257;
  dense.moe.reset();
  testing::expect_error(ErrorKind::config, {"search", "no experts"}, [&] { (void)draw_program(dense, 1, 1); });
  testing::Recorder observer;
  testing::expect_error(ErrorKind::usage, {"0 programs"}, [&] { (void)search_programs(recipe_of("x"), {.programs = 0}, observer); });
}

}  // namespace
}  // namespace switchyard::pattern_search_test
