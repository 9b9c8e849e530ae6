// From documents to a token file. Text is split first and tokenized after, so that no token reaches over the cut.
//
// The stream of a split depends on what the vocabulary has:
//
//   an end token, no separate beginning   E d1 E d2 E ... dn E     one E ends a document and starts the next
//   both                                  B d1 E B d2 E ... B dn E
//   neither                               d1 d2 ... dn
//
// Every token of the text is scored, save those outside Document::scored, and save the first of a document when nothing
// stands before it (no E and no B). E is scored where it ends a document; not where the split cut it, nor after a
// conversation that somebody other than the assistant ends. B is never scored.
//
// A conversation is tokenized range by range, so that no token lies across the border between context and answer.
#pragma once

#include "data/document.h"
#include "data/split.h"
#include "data/token_file.h"
#include "io/tokenizer/tokenizer.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>

namespace switchyard::data {

// Bytes of text done and in total.
using TokenizeProgress = std::function<void(int64_t done, int64_t total)>;

// A digest of everything that tokenize_corpus depends on.
[[nodiscard]] uint64_t fingerprint_of(std::span<const Document> documents, const Tokenizer& tokenizer, const SplitOptions& options);

[[nodiscard]] TokenData tokenize_corpus(std::span<const Document> documents, const Tokenizer& tokenizer, const SplitOptions& options,
                                        const TokenizeProgress& progress = {});

// The token file at `path` if it was made from the same documents, tokenizer and options; otherwise (missing, stale,
// damaged) it is made anew and replaced in one step.
[[nodiscard]] TokenFile open_token_file(const std::filesystem::path& path, std::span<const Document> documents, const Tokenizer& tokenizer,
                                        const SplitOptions& options, const TokenizeProgress& progress = {});

}  // namespace switchyard::data
