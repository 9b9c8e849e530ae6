#include "data/tokenize_corpus.h"

#include "data/fingerprint.h"
#include "switchyard/error.h"

#include <algorithm>
#include <bit>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace switchyard::data {
namespace {

// Raise when the same input gives other tokens than before, so that old caches are made again.
constexpr uint64_t kRulesVersion = 1;

struct Run {
  ByteRange bytes;
  bool scored;
};

// The bytes of a piece as alternating runs with and without loss.
std::vector<Run> runs_of(const Document& document, ByteRange piece) {
  if (!document.scored) return {{piece, true}};
  std::vector<Run> runs;
  int64_t at = piece.begin;
  const auto add = [&](int64_t end, bool scored) {
    const int64_t stop = std::clamp(end, at, piece.end);
    if (stop > at) runs.push_back({{at, stop}, scored});
    at = stop;
  };
  for (const ByteRange& range : *document.scored) {
    add(range.begin, false);
    add(range.end, true);
  }
  add(piece.end, false);
  return runs;
}

class NameTable {
 public:
  int64_t index_of(const std::string& name) {
    const auto [it, is_new] = index_.try_emplace(name, static_cast<int64_t>(names_.size()));
    if (is_new) names_.push_back(name);
    return it->second;
  }
  std::vector<std::string> take() { return std::move(names_); }

 private:
  std::map<std::string, int64_t> index_;
  std::vector<std::string> names_;
};

class SplitWriter {
 public:
  explicit SplitWriter(const Tokenizer& tokenizer) : tokenizer_(tokenizer), begin_(tokenizer.bos_id()), end_(tokenizer.eos_id()) {
    if (begin_ == end_) begin_.reset();
  }

  void add(const Document& document, ByteRange piece, NameTable& names) {
    const auto first = static_cast<int64_t>(split_.tokens.size());
    TokenDocument entry{first, piece.size(), 0, names.index_of(document.name), names.index_of(document.domain)};
    if (begin_) push(*begin_, false);
    else if (end_) push(*end_, end_is_scored_);

    const auto runs = runs_of(document, piece);
    for (const Run& run : runs) entry.scored_bytes += add_run(document.text, run, first);
    end_is_scored_ = runs.back().scored && piece.end == static_cast<int64_t>(document.text.size());
    if (begin_ && end_) push(*end_, end_is_scored_);
    // A normalising tokenizer may leave nothing of a text: then there is no document either.
    if (static_cast<int64_t>(split_.tokens.size()) > first) split_.documents.push_back(entry);
  }

  TokenSplit finish() {
    if (!begin_ && end_ && !split_.tokens.empty()) push(*end_, end_is_scored_);
    return std::move(split_);
  }

 private:
  void push(int32_t id, bool scored) {
    split_.tokens.push_back(id);
    split_.scored.push_back(scored);
  }

  // Returns the bytes that its scored tokens stand for.
  int64_t add_run(const std::string& text, const Run& run, int64_t document_start) {
    const auto bytes = std::string_view(text).substr(static_cast<size_t>(run.bytes.begin), static_cast<size_t>(run.bytes.size()));
    const auto ids = tokenizer_.encode(bytes);
    const bool follows_nothing = static_cast<int64_t>(split_.tokens.size()) == document_start;
    for (size_t i = 0; i < ids.size(); ++i) push(ids[i], run.scored && !(i == 0 && follows_nothing));
    if (!run.scored) return 0;
    if (!follows_nothing || ids.empty()) return run.bytes.size();
    const auto unscored = static_cast<int64_t>(tokenizer_.decode(std::span(ids).first(1), /*skip_special=*/false).size());
    return std::max<int64_t>(0, run.bytes.size() - unscored);
  }

  const Tokenizer& tokenizer_;
  std::optional<int32_t> begin_, end_;
  bool end_is_scored_ = false;  // of the document before
  TokenSplit split_;
};

}  // namespace

uint64_t fingerprint_of(std::span<const Document> documents, const Tokenizer& tokenizer, const SplitOptions& options) {
  Fingerprint print;
  print.add(kRulesVersion).add(tokenizer.to_json().dump());
  print.add(std::bit_cast<uint64_t>(options.validation_fraction)).add(static_cast<uint64_t>(options.whole_documents_above));
  for (const Document& document : documents) {
    print.add(document.name).add(document.domain).add(document.text);
    print.add(document.scored ? document.scored->size() + 1 : 0);
    if (!document.scored) continue;
    for (const ByteRange& range : *document.scored) print.add(static_cast<uint64_t>(range.begin)).add(static_cast<uint64_t>(range.end));
  }
  return print.value();
}

TokenData tokenize_corpus(std::span<const Document> documents, const Tokenizer& tokenizer, const SplitOptions& options,
                          const TokenizeProgress& progress) {
  const Split split = split_documents(documents, options);
  int64_t done = 0, total = 0;
  for (const Document& document : documents) total += static_cast<int64_t>(document.text.size());

  NameTable names;
  const auto tokenize = [&](std::span<const Piece> pieces) {
    SplitWriter writer(tokenizer);
    for (const Piece& piece : pieces) {
      writer.add(documents[static_cast<size_t>(piece.document)], piece.bytes, names);
      done += piece.bytes.size();
      if (progress) progress(done, total);
    }
    return writer.finish();
  };
  TokenData data{.fingerprint = fingerprint_of(documents, tokenizer, options),
                 .vocab_size = tokenizer.vocab_size(),
                 .train = tokenize(split.train),
                 .validation = tokenize(split.validation),
                 .names = {}};
  data.names = names.take();
  return data;
}

TokenFile open_token_file(const std::filesystem::path& path, std::span<const Document> documents, const Tokenizer& tokenizer,
                          const SplitOptions& options, const TokenizeProgress& progress) {
  if (std::filesystem::exists(path)) {
    try {
      TokenFile file(path);
      if (file.fingerprint() == fingerprint_of(documents, tokenizer, options)) return file;
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::checkpoint) throw;
    }
  }
  write_token_file(path, tokenize_corpus(documents, tokenizer, options, progress));
  return TokenFile(path);
}

}  // namespace switchyard::data
