// Reads a corpus: whatever text the user has, as a list of documents.
//
//   notes.txt        any UTF-8 file: one document, or several divided by form feeds (0x0C and one newline after it)
//   notes.txt + .tsv a table beside it with the columns `offset` and `bytes` (optional `title`, `domain`): one document
//                    per row, bytes outside the rows belong to none
//   folder/          every .txt and .md file below it in the order of paths, hidden files and links left out; the domain
//                    is the first sub-folder
//   rows.jsonl       (also .ndjson) one object per line: {"text": ..., "title"?, "domain"?} is a document,
//                    {"messages": [{"role": ..., "content": ...}, ...], ...} a conversation (data/chat.h)
//
// Documents without text are left out, a byte order mark likewise; otherwise bytes stay as they are (no newline or Unicode
// normalisation). Errors name file and line or byte, what was found and what was expected: Error{checkpoint} for the
// content, Error{io} for the file itself.
#pragma once

#include "data/document.h"

#include <filesystem>
#include <vector>

namespace switchyard::data {

// At least one document. The order is part of the result and the same on every machine.
[[nodiscard]] std::vector<Document> read_corpus(const std::filesystem::path& path);

}  // namespace switchyard::data
