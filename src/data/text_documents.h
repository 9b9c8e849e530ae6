// The documents of one plain text file; see data/corpus.h for the rules.
#pragma once

#include "data/document.h"

#include <filesystem>
#include <string>
#include <vector>

namespace switchyard::data {

[[nodiscard]] std::vector<Document> read_text_documents(const std::filesystem::path& path);

// The content of a file without its byte order mark. Throws Error{checkpoint} unless it is valid UTF-8.
[[nodiscard]] std::string read_utf8(const std::filesystem::path& path);

}  // namespace switchyard::data
