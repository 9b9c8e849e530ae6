#include "cli/completion_tree.h"

#include "cli/catalogue.h"
#include "cli/explain.h"
#include "cli/find_recipe.h"
#include "switchyard/error.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cctype>

namespace switchyard::cli {
namespace {

std::vector<std::string> names_of(const std::string& noun) {
  std::vector<std::string> names;
  for (const auto& part : parts_of(noun)) names.push_back(part.name);
  return names;
}

std::vector<std::string> recipe_names() {
  try {
    return names_of("recipes");
  } catch (const Error&) {
    return {};  // a program without its shared files still completes files
  }
}

std::vector<std::string> explainable() {
  try {
    return explainable_names();
  } catch (const Error&) {
    return {};
  }
}

std::vector<std::string> alternatives(const std::string& type) {
  std::vector<std::string> words(1);
  for (const char c : type) c == '|' ? static_cast<void>(words.emplace_back()) : words.back().push_back(c);
  return words;
}

// The type name that an option was declared with says what it takes: "FILE", "RUN ...", "RECIPE|MODEL-DIR", "bash|zsh|fish".
Completer completer_for(const std::string& type) {
  Completer out;
  for (const std::string& word : alternatives(type.substr(0, type.find(' ')))) {
    if (word == "FILE" || word == "PATH") out.files = true;
    else if (word == "DIR" || word == "MODEL-DIR" || word == "RUN") out.folders = true;
    else if (word == "RECIPE") { out.files = true; out.words = recipe_names(); }
    else if (word == "NOUN") { out.words = part_nouns(); out.words.insert(out.words.begin(), "systems"); }
    else if (word == "ID") out.words = explainable();
    else if (word == "FAMILY") { out.words = names_of("families"); out.words.insert(out.words.begin(), {"auto", "switchyard"}); }
    else if (!word.empty() && std::islower(static_cast<unsigned char>(word.front()))) out.words.push_back(word);
  }
  if (out.files) out.folders = false;  // completing files offers folders too
  return out;
}

void merge(Completer& into, const Completer& from) {
  into.words.insert(into.words.end(), from.words.begin(), from.words.end());
  into.files |= from.files;
  into.folders |= from.folders;
}

CompletedVerb tree_of(const CLI::App& app) {
  CompletedVerb out{app.get_name(), app.get_description(), {}, {}, {}};
  for (const CLI::Option* option : app.get_options()) {
    const std::string type = option->get_type_name();
    if (option->get_positional()) {
      merge(out.positional, completer_for(type));
      continue;
    }
    const auto& longs = option->get_lnames();
    const auto& shorts = option->get_snames();
    const bool takes_value = option->get_items_expected_max() > 0;
    out.options.push_back({longs.empty() ? "" : longs.front(), shorts.empty() ? "" : shorts.front(), option->get_description(), takes_value,
                           takes_value ? completer_for(type) : Completer{}});
  }
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) out.verbs.push_back(tree_of(*sub));
  return out;
}

}  // namespace

CompletedVerb completion_tree(const CLI::App& program) { return tree_of(program); }

}  // namespace switchyard::cli
