// switchyard tokenizer: learn a vocabulary
#include "base/files.h"
#include "cli/output.h"
#include "cli/training_recipe.h"
#include "cli/terminal.h"
#include "cli/verb.h"
#include "data/corpus.h"
#include "data/split.h"
#include "io/tokenizer/tokenizer.h"

#include <CLI/CLI.hpp>

namespace switchyard::cli {
namespace {

struct TokenizerTrainOptions {
  std::string data, output = "tokenizer.json";
  int64_t vocab_size = 2048;
};

void train_tokenizer(const TokenizerTrainOptions& opt) {
  const auto path = opt.data.empty() ? embedded_corpus() : std::filesystem::path(opt.data);
  const auto documents = data::read_corpus(path);
  const auto split = data::split_documents(documents, {});
  const auto texts = data::texts_of(documents, split.train);
  const auto tokenizer = train_bpe(texts, opt.vocab_size);
  write_file_atomic(opt.output, tokenizer->to_json().dump(1) + "\n");
  print_result("{}: {} tokens, learnt from the training split of {}\n", opt.output, tokenizer->vocab_size(), path.string());
}

}  // namespace

VerbEntry verb_tokenizer() {
  return {"tokenizer", 110, "Learn a byte-level BPE vocabulary from text", [](CLI::App& verb) {
            verb.require_subcommand(1);
            verb.footer("Examples:\n  switchyard tokenizer train --vocab-size 4096 --output tokenizer.json\n"
                        "  switchyard tokenizer train --help");
            auto opt = std::make_shared<TokenizerTrainOptions>();
            CLI::App* train = verb.add_subcommand("train", "Learn merges from the training split of a corpus");
            train->add_option("--data", opt->data, "text file, folder or JSONL; default: the corpus that comes with the program")
                ->type_name("PATH");
            train->add_option("--vocab-size", opt->vocab_size, "tokens: 256 bytes, an end-of-document token, and merges")
                ->type_name("N")
                ->check(CLI::Range(int64_t{257}, int64_t{1} << 24).description(""));
            train->add_option("--output", opt->output, "tokenizer.json to write")->type_name("FILE");
            train->footer("Examples:\n  switchyard tokenizer train --data books/ --vocab-size 4096 --output tokenizer.json\n"
                          "  switchyard tokenizer train --vocab-size 1024");
            train->callback([opt] { train_tokenizer(*opt); });
          }};
}

}  // namespace switchyard::cli
