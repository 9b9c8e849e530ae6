// From the recipe's text to tokens: corpus, tokenizer, token file.
#pragma once

#include "data/token_file.h"
#include "io/tokenizer/tokenizer.h"
#include "steps/metrics.h"
#include "steps/recipe.h"

#include <filesystem>
#include <memory>

namespace switchyard {

struct TrainData {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::shared_ptr<const data::TokenFile> tokens;
  int64_t documents = 0, bytes = 0;  // of the whole corpus
};

// Reads the corpus, learns the tokenizer from its training part unless `tokenizer` is given, and opens the token file
// `cache`, which is made when it is missing or does not fit.
[[nodiscard]] TrainData open_train_data(const Recipe& recipe, std::shared_ptr<const Tokenizer> tokenizer,
                                        const std::filesystem::path& cache, TrainObserver& observer);

// For run.json: what was trained on.
[[nodiscard]] nlohmann::ordered_json describe(const TrainData& data, const Recipe& recipe);

}  // namespace switchyard
