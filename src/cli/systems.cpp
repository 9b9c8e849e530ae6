#include "cli/systems.h"

#include "base/files.h"
#include "switchyard/error.h"

#include <fmt/ranges.h>

#include <set>

namespace switchyard::cli {
namespace {

std::vector<std::string> split(const std::string& text, char separator, bool keep_empty) {
  std::vector<std::string> parts;
  size_t begin = 0;
  while (true) {
    const size_t end = std::min(text.find(separator, begin), text.size());
    if (keep_empty || end > begin) parts.push_back(text.substr(begin, end - begin));
    if (end == text.size()) return parts;
    begin = end + 1;
  }
}

}  // namespace

std::vector<System> read_systems(const std::filesystem::path& file) {
  const std::vector<std::string> header = {"id", "name", "kind", "ref", "files", "recipe", "tests"};
  std::vector<System> systems;
  std::set<std::string> ids;
  const auto lines = split(read_text_file(file), '\n', true);
  for (size_t i = 0; i < lines.size(); ++i) {
    if (lines[i].empty()) continue;
    const auto cells = split(lines[i], '\t', true);
    if (i == 0 && cells != header)
      fail(ErrorKind::config, "{}:1: the header is '{}', expected the columns {}", file.string(), lines[0], fmt::join(header, ", "));
    if (i == 0) continue;
    if (cells.size() != header.size())
      fail(ErrorKind::config, "{}:{}: {} columns, expected {} ({})", file.string(), i + 1, cells.size(), header.size(), fmt::join(header, ", "));
    if (cells[0].empty() || !ids.insert(cells[0]).second)
      fail(ErrorKind::config, "{}:{}: the id '{}' is {}", file.string(), i + 1, cells[0], cells[0].empty() ? "empty" : "used twice");
    systems.push_back({cells[0], cells[1], cells[2], cells[3], split(cells[4], ' ', false), cells[5], split(cells[6], ' ', false)});
  }
  return systems;
}

}  // namespace switchyard::cli
