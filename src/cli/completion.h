// Shell completion scripts, made from the program's own declarations.
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace switchyard::cli {

// `shell`: bash, zsh or fish. The scripts hold verbs, options, and the names of recipes, families and nouns as they are
// now; everything else completes as files. Throws Error{usage} for another shell.
[[nodiscard]] std::string completion_script(const CLI::App& program, const std::string& shell);

}  // namespace switchyard::cli
