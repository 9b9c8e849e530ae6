#include "data/text_documents.h"

#include "base/files.h"
#include "data/utf8.h"
#include "switchyard/error.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>

namespace switchyard::data {
namespace {

namespace fs = std::filesystem;

std::vector<std::string_view> split_at(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

// A sidecar: tab-separated, one header line, one row per document.
struct Table {
  std::string file;
  std::vector<std::string_view> columns;

  std::optional<size_t> column(std::string_view name) const {
    const auto it = std::find(columns.begin(), columns.end(), name);
    if (it == columns.end()) return std::nullopt;
    return static_cast<size_t>(it - columns.begin());
  }
  std::string text_in(const std::vector<std::string_view>& row, std::string_view name) const {
    const auto index = column(name);
    return index ? std::string(row[*index]) : std::string();
  }
  int64_t count_in(const std::vector<std::string_view>& row, std::string_view name, size_t line) const {
    const std::string_view cell = row[*column(name)];
    int64_t value = -1;
    const auto [end, error] = std::from_chars(cell.data(), cell.data() + cell.size(), value);
    if (error != std::errc() || end != cell.data() + cell.size() || value < 0)
      fail(ErrorKind::checkpoint, "{}:{}: column '{}' is '{}'; expected a number of bytes", file, line, name, cell);
    return value;
  }
};

std::vector<Document> documents_of_table(const std::string& text, const fs::path& text_path, Table table,
                                         const std::vector<std::string_view>& lines) {
  std::vector<Document> documents;
  int64_t free_from = 0;
  for (size_t i = 1; i < lines.size(); ++i) {
    if (lines[i].empty()) continue;
    const auto row = split_at(lines[i], '\t');
    if (row.size() != table.columns.size())
      fail(ErrorKind::checkpoint, "{}:{}: {} columns; the header has {}", table.file, i + 1, row.size(), table.columns.size());
    const int64_t offset = table.count_in(row, "offset", i + 1), bytes = table.count_in(row, "bytes", i + 1);
    const auto size = static_cast<int64_t>(text.size());
    if (offset > size || bytes > size - offset)
      fail(ErrorKind::checkpoint, "{}:{}: offset {} + {} bytes lies past the end of {} ({} bytes)", table.file, i + 1, offset, bytes,
           text_path.string(), size);
    if (offset < free_from)
      fail(ErrorKind::checkpoint, "{}:{}: offset {} lies inside the row before, which ends at {}", table.file, i + 1, offset, free_from);
    free_from = offset + bytes;
    for (const int64_t edge : {offset, free_from})
      if (character_boundary(text, static_cast<size_t>(edge)) != static_cast<size_t>(edge))
        fail(ErrorKind::checkpoint, "{}:{}: byte {} of {} lies inside a character; expected a character boundary", table.file, i + 1, edge,
             text_path.string());
    Document document{.name = table.text_in(row, "title"),
                      .domain = table.text_in(row, "domain"),
                      .text = text.substr(static_cast<size_t>(offset), static_cast<size_t>(bytes)),
                      .scored = {}};
    if (document.name.empty()) document.name = text_path.filename().string() + " " + std::to_string(documents.size() + 1);
    documents.push_back(std::move(document));
  }
  return documents;
}

// Empty when there is no table beside the text. A .tsv file with neither column is somebody else's.
std::optional<std::vector<Document>> read_sidecar(const std::string& text, const fs::path& text_path) {
  fs::path path = text_path;
  path.replace_extension(".tsv");
  if (path == text_path || !fs::is_regular_file(path)) return std::nullopt;
  std::string content = read_utf8(path);
  std::erase(content, '\r');
  const auto lines = split_at(content, '\n');
  const Table table{path.string(), split_at(lines[0], '\t')};
  const bool has_offset = table.column("offset").has_value(), has_bytes = table.column("bytes").has_value();
  if (!has_offset && !has_bytes) return std::nullopt;
  if (!has_offset || !has_bytes)
    fail(ErrorKind::checkpoint, "{}:1: no column '{}'; expected a header with offset and bytes", path.string(),
         has_offset ? "bytes" : "offset");
  return documents_of_table(text, text_path, table, lines);
}

}  // namespace

std::string read_utf8(const fs::path& path) {
  std::string text = read_text_file(path);
  check_utf8(text, path.string());
  if (text.starts_with("\xEF\xBB\xBF")) text.erase(0, 3);
  return text;
}

std::vector<Document> read_text_documents(const fs::path& path) {
  std::string text = read_utf8(path);
  if (auto documents = read_sidecar(text, path)) return std::move(*documents);

  const std::string name = path.filename().string();
  if (text.find('\f') == std::string::npos) return {Document{.name = name, .domain = {}, .text = std::move(text), .scored = {}}};
  std::vector<Document> documents;
  for (std::string_view part : split_at(text, '\f')) {
    if (!documents.empty() && part.starts_with('\n')) part.remove_prefix(1);
    documents.push_back({.name = name + " " + std::to_string(documents.size() + 1), .domain = {}, .text = std::string(part), .scored = {}});
  }
  return documents;
}

}  // namespace switchyard::data
