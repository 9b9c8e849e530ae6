#include "data/corpus.h"

#include "data/jsonl_documents.h"
#include "data/text_documents.h"
#include "switchyard/error.h"

#include <algorithm>
#include <iterator>

namespace switchyard::data {
namespace {

namespace fs = std::filesystem;

bool is_hidden(const fs::path& path) { return path.filename().string().starts_with('.'); }

std::vector<fs::path> text_files_below(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  fs::recursive_directory_iterator it(folder, error);
  for (; !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
    const fs::path& path = it->path();
    std::error_code ignored;
    if (is_hidden(path)) {
      it.disable_recursion_pending();
    } else if (it->symlink_status(ignored).type() == fs::file_type::regular && (path.extension() == ".txt" || path.extension() == ".md")) {
      files.push_back(path);
    }
  }
  if (error) fail(ErrorKind::io, "cannot read folder '{}': {}", folder.string(), error.message());
  std::sort(files.begin(), files.end());
  return files;
}

std::vector<Document> read_folder(const fs::path& folder) {
  const auto files = text_files_below(folder);
  if (files.empty()) fail(ErrorKind::checkpoint, "{}: no .txt or .md file in this folder; expected at least one", folder.string());
  std::vector<Document> documents;
  for (const fs::path& file : files) {
    const fs::path relative = file.lexically_relative(folder);
    Document document{.name = relative.generic_string(), .domain = {}, .text = read_utf8(file), .scored = {}};
    if (std::distance(relative.begin(), relative.end()) > 1) document.domain = relative.begin()->string();
    documents.push_back(std::move(document));
  }
  return documents;
}

}  // namespace

std::vector<Document> read_corpus(const fs::path& path) {
  const auto extension = path.extension();
  auto documents = fs::is_directory(path)                             ? read_folder(path)
                   : extension == ".jsonl" || extension == ".ndjson" ? read_jsonl_documents(path)
                                                                      : read_text_documents(path);
  std::erase_if(documents, [](const Document& document) { return document.text.empty(); });
  if (documents.empty()) fail(ErrorKind::checkpoint, "{}: holds no text; expected at least one byte", path.string());
  return documents;
}

}  // namespace switchyard::data
