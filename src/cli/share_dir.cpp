#include "cli/share_dir.h"

#include "switchyard/error.h"

#include <cstdlib>
#include <vector>

namespace switchyard::cli {
namespace fs = std::filesystem;
namespace {

fs::path find_share_dir() {
  std::vector<fs::path> places;
  if (const char* forced = std::getenv("SWITCHYARD_SHARE_DIR"); forced && *forced) {
    places.emplace_back(forced);
  } else {
    std::error_code ignored;
    const fs::path program = fs::read_symlink("/proc/self/exe", ignored);
    if (!program.empty()) {
      const fs::path prefix = program.parent_path().parent_path();
      places = {prefix / "share" / "switchyard", prefix};
    }
    places.emplace_back(SW_SHARE_SOURCE_DIR);
  }
  std::string tried;
  for (const fs::path& place : places) {
    std::error_code ignored;
    if (fs::exists(place / "systems.tsv", ignored) || fs::is_directory(place / "recipes" / "demo", ignored)) return place;
    tried += (tried.empty() ? "" : ", ") + place.string();
  }
  fail(ErrorKind::io, "the files that come with the program (systems.tsv, recipes/) are not in {}; set SWITCHYARD_SHARE_DIR to the folder that has them", tried);
}

}  // namespace

const fs::path& share_dir() {
  static const fs::path found = find_share_dir();
  return found;
}

std::string version() { return SW_VERSION; }

}  // namespace switchyard::cli
