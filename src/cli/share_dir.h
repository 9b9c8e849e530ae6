// Files that come with the program: systems.tsv, recipes/, data/. In the source tree when the program was built there, in
// <prefix>/share/switchyard when it was installed.
#pragma once

#include <filesystem>
#include <string>

namespace switchyard::cli {

// The first that holds systems.tsv or recipes/: $SWITCHYARD_SHARE_DIR, ../share/switchyard and .. beside the program's file,
// the source tree of the build. Throws Error{io} that lists the places.
[[nodiscard]] const std::filesystem::path& share_dir();

[[nodiscard]] std::string version();

}  // namespace switchyard::cli
