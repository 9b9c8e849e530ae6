#include "cli/published.h"

#include "base/files.h"
#include "cli/share_dir.h"
#include "switchyard/error.h"

#include <sstream>

namespace switchyard::cli {

std::vector<PublishedModel> published_models() {
  const auto path = share_dir() / "recipes" / "models" / "published.tsv";
  std::istringstream text(read_text_file(path));
  std::vector<PublishedModel> out;
  int64_t number = 0;
  for (std::string line; std::getline(text, line);) {
    if (++number == 1 || line.empty()) continue;  // names of the columns
    std::vector<std::string> fields;
    std::istringstream cells(line);
    for (std::string cell; std::getline(cells, cell, '\t');) fields.push_back(cell);
    if (fields.size() != 4) fail(ErrorKind::config, "{}:{}: {} fields, expected 4 between tabs: id, total, active, remark", path.string(), number, fields.size());
    out.push_back({fields[0], fields[1], fields[2], fields[3]});
  }
  return out;
}

}  // namespace switchyard::cli
