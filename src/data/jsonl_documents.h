// The documents and conversations of one JSONL file; see data/corpus.h for the rules.
#pragma once

#include "data/document.h"

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard::data {

[[nodiscard]] std::vector<Document> read_jsonl_documents(const std::filesystem::path& path);

// The same for content already in memory; `file` names it in errors and documents.
[[nodiscard]] std::vector<Document> parse_jsonl_documents(std::string_view content, const std::string& file);

}  // namespace switchyard::data
