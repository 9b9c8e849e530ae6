#include "cli/evaluation_text.h"

#include "cli/training_recipe.h"
#include "data/corpus.h"
#include "data/similar_order.h"
#include "data/tokenize_corpus.h"
#include "steps/run_folder.h"
#include "switchyard/error.h"

#include <unistd.h>

#include <algorithm>

namespace switchyard::cli {
namespace fs = std::filesystem;
namespace {

// A token file is mapped, so it may lose its name as soon as it is open.
std::shared_ptr<const data::TokenFile> tokenize(const fs::path& text, const std::string& order, const data::SplitOptions& split, const Tokenizer& tokenizer) {
  std::string name = (fs::temp_directory_path() / "switchyard-eval-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) fail(ErrorKind::io, "{}: cannot make a folder for temporary files", name);
  const struct Cleaner {
    fs::path folder;
    ~Cleaner() {
      std::error_code ignored;
      fs::remove_all(folder, ignored);
    }
  } cleaner{name};
  return std::make_shared<data::TokenFile>(data::open_token_file(fs::path(name) / "tokens.bin", data::in_order(data::read_corpus(text), order), tokenizer, split));
}

}  // namespace

EvaluationText open_evaluation_text(const fs::path& model, const std::string& path, const std::string& split, const Tokenizer& tokenizer) {
  if (split != "" && split != "validation" && split != "all") fail(ErrorKind::usage, "--split {}: expected validation or all", split);
  EvaluationText out;
  data::SplitOptions how;
  std::string order = "given";
  const RunFolder run{fs::weakly_canonical(model).parent_path().parent_path()};  // RUN/checkpoints/best
  out.path = path.empty() ? embedded_corpus() : fs::path(path);
  if (fs::exists(run.recipe())) {
    const Recipe recipe = load_recipe(run.recipe());
    out.seq_len = recipe.train.seq_len;
    out.cross_documents = recipe.data.cross_documents;
    if (path.empty()) how = recipe.data.split, order = recipe.data.order;
    if (path.empty() && !recipe.data.path.empty()) out.path = recipe.data.path;
  }
  out.split = !split.empty() ? split : path.empty() ? "validation" : "all";
  if (out.split == "all") how.validation_fraction = 0;
  out.tokens = tokenize(out.path, order, how, tokenizer);
  return out;
}

int64_t window_length(int64_t wanted, const EvaluationText& text, const ModelSpec& spec) {
  if (wanted == 0) wanted = text.seq_len > 0 ? text.seq_len : std::min<int64_t>(1024, spec.max_positions);
  if (wanted > spec.max_positions) fail(ErrorKind::usage, "--seq-len {}: the model sees at most {} tokens (max_positions)", wanted, spec.max_positions);
  return wanted;
}

}  // namespace switchyard::cli
