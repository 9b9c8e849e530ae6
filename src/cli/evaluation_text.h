// The text that `eval` measures on, as tokens.
#pragma once

#include "data/token_file.h"
#include "io/tokenizer/tokenizer.h"
#include "switchyard/model_spec.h"

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

namespace switchyard::cli {

struct EvaluationText {
  std::filesystem::path path;
  std::string split;  // validation | all
  std::shared_ptr<const data::TokenFile> tokens;
  int64_t seq_len = 0;  // of the run; 0 when the model belongs to none
  bool cross_documents = false;

  [[nodiscard]] const data::TokenStream& stream() const { return split == "all" ? tokens->train() : tokens->validation(); }
};

// `path` given: that text, all of it unless `split` is "validation". Otherwise the validation text of the run that the model
// folder belongs to, or of the corpus that comes with the program.
[[nodiscard]] EvaluationText open_evaluation_text(const std::filesystem::path& model, const std::string& path, const std::string& split,
                                                  const Tokenizer& tokenizer);

// Tokens per window: `wanted` unless 0; else as in training; for a model of unknown history as many as it can, but not beyond
// 1024. Throws Error{usage} beyond max_positions.
[[nodiscard]] int64_t window_length(int64_t wanted, const EvaluationText& text, const ModelSpec& spec);

}  // namespace switchyard::cli
