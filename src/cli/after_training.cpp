#include "cli/after_training.h"

#include "base/files.h"
#include "infer/generate.h"
#include "report/report.h"

namespace switchyard::cli {

TrainingPages write_training_pages(const std::filesystem::path& run, const Recipe& recipe, const TrainResult& result) {
  TrainingPages pages;
  if (recipe.sample.tokens > 0 && result.tokenizer && recipe.model.causal) {
    auto prompt = prompt_ids(*result.tokenizer, recipe.sample.prompt);
    GenerateOptions options;
    options.max_tokens = recipe.sample.tokens;
    options.sampling.temperature = recipe.sample.temperature;
    options.sampling.top_p = recipe.sample.top_p;
    options.seed = static_cast<uint64_t>(recipe.seed);
    options.ignore_eos = true;
    options.tag = recipe.sample.tag;
    const Generated sample = generate(*result.model, result.tokenizer.get(), prompt, options);
    pages.sample = run / "sample.txt";
    write_file_atomic(pages.sample, recipe.sample.prompt + sample.text + "\n");
  }
  pages.report = run / "report.html";
  report::write_report(run.string(), pages.report.string());
  return pages;
}

}  // namespace switchyard::cli
