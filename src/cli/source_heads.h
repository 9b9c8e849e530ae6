// The comments at the heads of recipes and source files: what `explain` says is written there, once.
#pragma once

#include <string>

namespace switchyard::cli {

// Comment lines at the start of `text` without their marks ("//" or "#"); up to the first line that is no comment.
[[nodiscard]] std::string head_of(const std::string& text);

// Of a file by its path below the repository ("src/gates/dense.cpp", "recipes/gates/switch.toml"): from the file itself in a
// source tree, else from heads.txt, which `make install` puts beside systems.tsv. A .cpp without one has that of its header.
// "" when nothing is known.
[[nodiscard]] std::string head_of_file(const std::string& path);

}  // namespace switchyard::cli
