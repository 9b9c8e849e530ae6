// The text that `eval` measures on, as tokens.
#pragma once

#include "data/token_file.h"
#include "io/tokenizer/tokenizer.h"

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

}  // namespace switchyard::cli
