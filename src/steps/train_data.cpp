#include "steps/train_data.h"

#include "data/corpus.h"
#include "data/similar_order.h"
#include "data/split.h"
#include "data/tokenize_corpus.h"
#include "switchyard/error.h"

namespace switchyard {
namespace {

std::shared_ptr<const Tokenizer> make_tokenizer(const TokenizerOptions& options, std::span<const std::string_view> texts, TrainObserver& observer) {
  if (options.kind == "byte") return make_byte_tokenizer();
  if (options.kind == "file") return load_tokenizer(options.path);
  return train_bpe(texts, options.vocab_size, [&](int64_t done, int64_t total) { observer.on_prepare("tokenizer", done, total); });
}

}  // namespace

TrainData open_train_data(const Recipe& recipe, std::shared_ptr<const Tokenizer> tokenizer, const std::filesystem::path& cache,
                          TrainObserver& observer) {
  if (recipe.data.path.empty())
    fail(ErrorKind::config, "data.path is empty; expected a text file, a folder or a JSONL file (--set data.path=FILE)");
  const std::vector<data::Document> documents = data::in_order(data::read_corpus(recipe.data.path), recipe.data.order);
  TrainData out;
  out.documents = static_cast<int64_t>(documents.size());
  for (const data::Document& document : documents) out.bytes += static_cast<int64_t>(document.text.size());
  if (!tokenizer) {
    const data::Split split = data::split_documents(documents, recipe.data.split);
    tokenizer = make_tokenizer(recipe.tokenizer, data::texts_of(documents, split.train), observer);
  }
  out.tokenizer = std::move(tokenizer);
  const auto progress = [&](int64_t done, int64_t total) { observer.on_prepare("tokens", done, total); };
  out.tokens = std::make_shared<data::TokenFile>(data::open_token_file(cache, documents, *out.tokenizer, recipe.data.split, progress));
  return out;
}

nlohmann::ordered_json describe(const TrainData& data, const Recipe& recipe) {
  return {{"path", recipe.data.path},
          {"documents", data.documents},
          {"bytes", data.bytes},
          {"tokenizer", recipe.tokenizer.kind},
          {"vocab_size", data.tokenizer->vocab_size()},
          {"train_tokens", data.tokens->train().size()},
          {"validation_tokens", data.tokens->validation().size()},
          {"validation_bytes", data.tokens->validation().scored_bytes()}};
}

}  // namespace switchyard
