// What can be typed after `switchyard`: verbs, their options, and what stands where a value is expected.
#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace switchyard::cli {

// What completes a value: some words, file names, folder names, or words and files.
struct Completer {
  std::vector<std::string> words;
  bool files = false, folders = false;
  [[nodiscard]] bool nothing() const { return words.empty() && !files && !folders; }
};

struct CompletedOption {
  std::string long_name, short_name;  // without dashes; either may be empty
  std::string help;
  bool takes_value = false;
  Completer value;
};

struct CompletedVerb {
  std::string name, summary;
  std::vector<CompletedOption> options;
  Completer positional;              // all positionals of a verb together
  std::vector<CompletedVerb> verbs;  // `recipe` has `check` and `show`
};

[[nodiscard]] CompletedVerb completion_tree(const CLI::App& program);

}  // namespace switchyard::cli
