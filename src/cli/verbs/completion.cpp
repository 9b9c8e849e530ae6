// switchyard completion: a script that makes the shell complete verbs, options and names
#include "cli/completion.h"
#include "cli/output.h"
#include "cli/verb.h"

#include <CLI/CLI.hpp>

namespace switchyard::cli {

VerbEntry verb_completion() {
  return {"completion", 130, "Print a completion script for bash, zsh or fish", [](CLI::App& verb) {
            auto shell = std::make_shared<std::string>();
            verb.add_option("shell", *shell, "bash, zsh or fish")->required()->type_name("bash|zsh|fish");
            verb.footer("Examples:\n  eval \"$(switchyard completion bash)\"\n  switchyard completion fish > ~/.config/fish/completions/switchyard.fish");
            verb.callback([shell, &verb] { write_result(completion_script(*verb.get_parent(), *shell)); });
          }};
}

}  // namespace switchyard::cli
