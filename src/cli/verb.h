// One subcommand of the program. src/cli/verbs/<stem>.cpp defines `VerbEntry verb_<stem>()`; the build makes the table of
// all of them from the folder.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace switchyard::cli {

struct VerbEntry {
  std::string name;
  int order = 0;        // place in `switchyard --help`
  std::string summary;  // one line
  // Declares arguments and a callback on the verb's own App: parse, one library call, print.
  std::function<void(CLI::App& verb)> add;
};

// All verbs, by `order`.
[[nodiscard]] const std::vector<VerbEntry>& verbs();

// The program's parser with every verb declared: for parsing, and for `completion` to read.
void declare_verbs(CLI::App& program);

}  // namespace switchyard::cli
