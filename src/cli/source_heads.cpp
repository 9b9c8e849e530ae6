#include "cli/source_heads.h"

#include "base/files.h"
#include "cli/share_dir.h"

#include <map>
#include <sstream>

namespace switchyard::cli {
namespace {

constexpr const char* kNextFile = "=== ";  // cmake/SourceHeads.cmake writes it before each path

std::map<std::string, std::string> read_heads(const std::filesystem::path& file) {
  std::map<std::string, std::string> heads;
  if (!std::filesystem::exists(file)) return heads;
  std::istringstream lines(read_text_file(file));
  std::string path;
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind(kNextFile, 0) == 0) path = line.substr(4);
    else heads[path] += line + "\n";
  }
  return heads;
}

// "" when there is none.
std::string written_head(const std::string& path) {
  const auto file = share_dir() / path;
  std::error_code ignored;
  if (std::filesystem::is_regular_file(file, ignored)) return head_of(read_text_file(file));
  static const auto heads = read_heads(share_dir() / "heads.txt");
  const auto found = heads.find(path);
  return found == heads.end() ? "" : head_of(found->second);
}

}  // namespace

std::string head_of(const std::string& text) {
  std::istringstream lines(text);
  std::string out;
  for (std::string line; std::getline(lines, line);) {
    const size_t mark = line.rfind("//", 0) == 0 ? 2 : line.rfind('#', 0) == 0 && line.rfind("#include", 0) != 0 && line.rfind("#pragma", 0) != 0 ? 1 : 0;
    if (mark == 0) break;
    out += line.substr(line.size() > mark && line[mark] == ' ' ? mark + 1 : mark) + "\n";
  }
  return out;
}

std::string head_of_file(const std::string& path) {
  std::string head = written_head(path);
  if (head.empty() && path.ends_with(".cpp")) head = written_head(path.substr(0, path.size() - 3) + "h");
  return head;
}

}  // namespace switchyard::cli
