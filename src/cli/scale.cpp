#include "cli/scale.h"

#include "models/miniature.h"

#include <CLI/CLI.hpp>

namespace switchyard::cli {

void scale_recipe(Recipe& recipe, const std::string& scale) {
  if (scale.empty()) return;
  recipe.tokenizer = {.kind = "byte", .path = ""};
  recipe.model = miniature(recipe.model, expected_vocab_size(recipe.tokenizer));
  recipe.model.vocab_size = 0;
  TrainOptions& t = recipe.train;
  const TrainOptions absent;
  t.seq_len = std::min(t.seq_len, recipe.model.max_positions);
  if (t.steps == absent.steps) t.steps = 200;
  if (t.batch_size == absent.batch_size) t.batch_size = 8;
  if (t.optimizer.lr == absent.optimizer.lr) t.optimizer.lr = 3e-3;
}

void add_scale_option(CLI::App& verb, std::string& scale) {
  verb.add_option("--scale", scale, "tiny: a miniature with the same structure, which trains in seconds; keys of --set come before it")
      ->check(CLI::IsMember({"tiny"}));
}

}  // namespace switchyard::cli
