#include "cli/boards.h"

#include "base/files.h"
#include "report/measures_file.h"
#include "switchyard/error.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace switchyard::cli {
namespace fs = std::filesystem;
namespace {

std::string section(const fs::path& file) {
  const auto board = report::parse_board(read_text_file(file), file.string());
  std::string out = fmt::format("\n## {}\n\n{}\n\n", board.title, board.about);
  if (!board.machine.empty()) out += fmt::format("Machine: {}.\n\n", board.machine);
  out += report::measures_markdown(board.table);
  fs::path note = file;
  if (note.replace_extension(".md"); fs::exists(note)) out += "\n" + read_text_file(note);
  out += "\n";
  for (const auto& measure : board.table.measures) out += fmt::format("- {}: {}\n", measure.title, measure.about);
  return out;
}

}  // namespace

std::string boards_markdown(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder, error))
    if (entry.path().extension() == ".json") files.push_back(entry.path());
  if (error) fail(ErrorKind::io, "{}: {}", folder.string(), error.message());
  std::sort(files.begin(), files.end());
  std::string out;
  for (const auto& file : files) out += section(file);
  return out;
}

}  // namespace switchyard::cli
