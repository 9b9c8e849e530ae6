#include "cli/completion.h"

#include "base/nearest_name.h"
#include "cli/completion_tree.h"
#include "switchyard/error.h"

#include <fmt/ranges.h>

namespace switchyard::cli {
namespace {

std::string shell_quoted(const std::string& text) {  // for a POSIX-like shell: 'it'\''s'
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::vector<std::string> names_of(const std::vector<CompletedVerb>& verbs) {
  std::vector<std::string> names;
  for (const auto& verb : verbs) names.push_back(verb.name);
  return names;
}

std::vector<std::string> dashed(const CompletedOption& option) {
  std::vector<std::string> names;
  if (!option.long_name.empty()) names.push_back("--" + option.long_name);
  if (!option.short_name.empty()) names.push_back("-" + option.short_name);
  return names;
}

std::string bash_reply(const Completer& value) {
  std::string flags;
  if (!value.words.empty()) flags += " -W " + shell_quoted(fmt::format("{}", fmt::join(value.words, " ")));
  if (value.files) flags += " -f";
  if (value.folders) flags += " -d";
  return flags.empty() ? "COMPREPLY=()" : "compopt -o filenames; mapfile -t COMPREPLY < <(compgen" + flags + " -- \"$cur\")";
}

// `depth`: the word of the command line at which this verb's own words begin.
void write_bash(std::string& out, const CompletedVerb& verb, int depth, const std::string& indent) {
  if (!verb.verbs.empty()) {
    out += fmt::format("{}if (( COMP_CWORD > {} )); then\n{}  case \"${{COMP_WORDS[{}]}}\" in\n", indent, depth, indent, depth);
    for (const auto& sub : verb.verbs) {
      out += fmt::format("{}    {})\n", indent, sub.name);
      write_bash(out, sub, depth + 1, indent + "      ");
      out += indent + "      ;;\n";
    }
    out += fmt::format("{0}  esac\n{0}  return\n{0}fi\n", indent);
  }
  std::vector<std::string> options = names_of(verb.verbs);
  std::string values;
  for (const auto& option : verb.options) {
    const auto names = dashed(option);
    options.insert(options.end(), names.begin(), names.end());
    if (option.takes_value) values += fmt::format("{}  {}) {}; return ;;\n", indent, fmt::join(names, "|"), bash_reply(option.value));
  }
  if (!values.empty()) out += fmt::format("{0}case \"$prev\" in\n{1}{0}esac\n", indent, values);
  const std::string words = fmt::format("mapfile -t COMPREPLY < <(compgen -W {} -- \"$cur\")", shell_quoted(fmt::format("{}", fmt::join(options, " "))));
  if (verb.positional.nothing())
    out += fmt::format("{}{}\n", indent, words);
  else
    out += fmt::format("{0}if [[ $cur == -* ]]; then {1}; else {2}; fi\n", indent, words, bash_reply(verb.positional));
}

std::string bash_script(const CompletedVerb& program) {
  std::string out =
      "# Completion of switchyard for bash. Once:  eval \"$(switchyard completion bash)\"\n"
      "# For good:  switchyard completion bash > ~/.local/share/bash-completion/completions/switchyard\n"
      "_switchyard() {\n"
      "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
      "  COMPREPLY=()\n";
  write_bash(out, program, 1, "  ");
  return out + "}\ncomplete -F _switchyard switchyard\n";
}

std::string zsh_escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '[' || c == ']' || c == ':' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

std::string zsh_action(const Completer& value) {
  const std::string words = fmt::format("{}", fmt::join(value.words, " "));
  if (!value.words.empty() && (value.files || value.folders)) return "{_alternative \"words:word:(" + words + ")\" \"files:file:_files\"}";
  if (!value.words.empty()) return "(" + words + ")";
  return value.folders ? "_files -/" : value.files ? "_files" : " ";
}

void write_zsh(std::string& out, const CompletedVerb& verb, const std::string& function) {
  out += function + "() {\n  local context state line\n  _arguments -C";
  for (const auto& option : verb.options)
    for (const auto& name : dashed(option)) {
      const bool joins = option.takes_value && name.compare(0, 2, "--") == 0;  // --name=value as well as --name value
      std::string spec = (option.takes_value ? "*" : "") + name + (joins ? "=" : "") + "[" + zsh_escaped(option.help) + "]";
      if (option.takes_value) spec += ":value:" + zsh_action(option.value);
      out += " \\\n    " + shell_quoted(spec);
    }
  if (!verb.verbs.empty()) out += " \\\n    '1:verb:->verb' \\\n    '*::argument:->argument'";
  else if (!verb.positional.nothing()) out += " \\\n    " + shell_quoted("*:argument:" + zsh_action(verb.positional));
  out += "\n";
  if (!verb.verbs.empty()) {
    out += "  case $state in\n    verb)\n      local -a verbs\n      verbs=(";
    for (const auto& sub : verb.verbs) out += "\n        " + shell_quoted(zsh_escaped(sub.name) + ":" + sub.summary);
    out += ")\n      _describe verb verbs ;;\n    argument)\n      case $words[1] in\n";
    for (const auto& sub : verb.verbs) out += fmt::format("        {}) {}_{} ;;\n", sub.name, function, sub.name);
    out += "      esac ;;\n  esac\n";
  }
  out += "}\n";
  for (const auto& sub : verb.verbs) write_zsh(out, sub, function + "_" + sub.name);
}

std::string zsh_script(const CompletedVerb& program) {
  std::string out =
      "#compdef switchyard\n"
      "# Completion of switchyard for zsh. Once:  source <(switchyard completion zsh)\n"
      "# For good: write it to a file _switchyard in a folder of $fpath\n";
  write_zsh(out, program, "_switchyard");
  return out + "if [ \"$funcstack[1]\" = \"_switchyard\" ]; then _switchyard \"$@\"; else compdef _switchyard switchyard; fi\n";
}

std::string fish_quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' || c == '\\' ? std::string("\\") + c : std::string(1, c);
  return out + "'";
}

std::string fish_values(const Completer& value) {
  std::string out = value.files ? " -F" : " -f";
  std::string words = fmt::format("{}", fmt::join(value.words, " "));
  if (value.folders) words += (words.empty() ? "" : " ") + std::string("(__fish_complete_directories)");
  return words.empty() ? out : out + " -a " + fish_quoted(words);
}

void write_fish(std::string& out, const CompletedVerb& verb, const std::vector<std::string>& path) {
  std::string here;
  for (const auto& word : path) here += (here.empty() ? "" : "; and ") + ("__fish_seen_subcommand_from " + word);
  const std::string line = "complete -c switchyard" + (here.empty() ? "" : " -n " + fish_quoted(here));
  const std::string names = fmt::format("{}", fmt::join(names_of(verb.verbs), " "));
  for (const auto& sub : verb.verbs) {
    const std::string condition = path.empty() ? "__fish_use_subcommand" : here + "; and not __fish_seen_subcommand_from " + names;
    out += fmt::format("complete -c switchyard -n {} -f -a {} -d {}\n", fish_quoted(condition), sub.name, fish_quoted(sub.summary));
  }
  if (!path.empty() && verb.verbs.empty()) out += line + fish_values(verb.positional) + "\n";
  for (const auto& option : verb.options) {
    out += line;
    if (!option.long_name.empty()) out += " -l " + option.long_name;
    if (!option.short_name.empty()) out += " -s " + option.short_name;
    if (option.takes_value) out += " -r" + fish_values(option.value);
    out += " -d " + fish_quoted(option.help) + "\n";
  }
  for (const auto& sub : verb.verbs) {
    auto deeper = path;
    deeper.push_back(sub.name);
    write_fish(out, sub, deeper);
  }
}

std::string fish_script(const CompletedVerb& program) {
  std::string out =
      "# Completion of switchyard for fish. Once:  switchyard completion fish | source\n"
      "# For good:  switchyard completion fish > ~/.config/fish/completions/switchyard.fish\n";
  write_fish(out, program, {});
  return out;
}

}  // namespace

std::string completion_script(const CLI::App& program, const std::string& shell) {
  const CompletedVerb tree = completion_tree(program);
  if (shell == "bash") return bash_script(tree);
  if (shell == "zsh") return zsh_script(tree);
  if (shell == "fish") return fish_script(tree);
  const std::vector<std::string> shells = {"bash", "zsh", "fish"};
  fail(ErrorKind::usage, "no completion for '{}'{}", shell, suggestion(shell, shells));
}

}  // namespace switchyard::cli
