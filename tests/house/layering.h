// The rules of the house as pure functions over source text, so that they can be tried on made-up trees.
#pragma once

#include "switchyard/error.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard::house {

// Path below the repository root ("src/gates/dense.cpp") -> content.
using SourceTree = std::map<std::string, std::string>;
using Violations = std::vector<std::string>;

struct Layer {
  std::string folder;
  int number;
};

// A file may include its own folder and folders with a lower number. docs/architecture.md, "Layers".
inline const std::vector<Layer>& layers() {
  static const std::vector<Layer> table = {
      {"base", 0},     {"kernels", 1},  {"io", 1},        {"core", 2},   {"gates", 3},   {"losses", 3}, {"capacity", 3},
      {"experts", 3},  {"join", 3},     {"mixers", 3},   {"dispatch", 3}, {"comm", 3},    {"data", 3},   {"layer", 4},
      {"models", 5},   {"infer", 6},    {"vision", 6},   {"eval", 7},     {"report", 8},  {"steps", 9},  {"bench", 9},     {"serve", 10},
      {"cli", 10},
  };
  return table;
}

// A public header has the layer of what it describes. `core` headers are the interfaces that plug-ins implement.
inline const std::vector<Layer>& public_headers() {
  static const std::vector<Layer> table = {
      {"config.h", 0},        {"error.h", 0},       {"fields.h", 0},       {"fwd.h", 0},          {"random.h", 0},
      {"version.h", 0},       {"communicator.h", 2}, {"dispatch_plan.h", 2}, {"dispatcher.h", 2},   {"expert_bank.h", 2},
      {"gate.h", 2},          {"join.h", 2},        {"loss.h", 2},         {"mixer.h", 2},       {"packable.h", 2},    {"plug_in.h", 2},      {"routing.h", 2},
      {"routing_stats.h", 2}, {"site.h", 2},        {"moe.h", 4},         {"model_spec.h", 5},   {"language_model.h", 5},
      {"checkpoint.h", 5},    {"switchyard.h", 5},
  };
  return table;
}

inline const std::set<std::string>& torch_free_folders() {
  static const std::set<std::string> folders = {"base", "kernels", "io", "data", "report"};
  return folders;
}

inline constexpr std::string_view kSource = "src/", kPublic = "include/switchyard/";
inline constexpr size_t kLongFile = 500, kLongReadme = 30;

// Every file below the named folders of `root`.
inline SourceTree read_tree(const std::filesystem::path& root, const std::vector<std::string>& folders) {
  SourceTree tree;
  for (const auto& folder : folders) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root / folder)) {
      if (!entry.is_regular_file()) continue;
      std::ifstream file(entry.path(), std::ios::binary);
      std::stringstream text;
      text << file.rdbuf();
      tree[entry.path().lexically_relative(root).generic_string()] = text.str();
    }
  }
  return tree;
}

inline bool starts_with(std::string_view text, std::string_view head) { return text.substr(0, head.size()) == head; }

inline bool is_source(const std::string& path) {
  const auto end = std::filesystem::path(path).extension();
  return end == ".h" || end == ".cpp" || end == ".inl";
}

// "gates" of src/gates/select/top_k.cpp; the file name of a public header; "" for anything else.
inline std::string home_of(const std::string& path) {
  for (const std::string_view head : {kSource, kPublic}) {
    if (!starts_with(path, head)) continue;
    const std::string rest = path.substr(head.size());
    return rest.substr(0, rest.find('/'));
  }
  return "";
}

// Number of the layer, -1 when no table has it.
inline int layer_of(const std::string& path) {
  for (const auto& [name, number] : starts_with(path, kPublic) ? public_headers() : layers())
    if (name == home_of(path)) return number;
  return -1;
}

struct Include {
  std::string written;  // as between the quotes or angle brackets
  std::string target;   // the file of the tree; "" for headers of the system and of libraries
};

inline std::vector<Include> includes_of(const SourceTree& tree, const std::string& path) {
  std::vector<Include> found;
  std::istringstream lines(tree.at(path));
  for (std::string line; std::getline(lines, line);) {
    const size_t hash = line.find_first_not_of(" \t");
    if (hash == std::string::npos || line[hash] != '#') continue;
    const size_t word = line.find_first_not_of(" \t", hash + 1);
    if (word == std::string::npos || line.compare(word, 7, "include") != 0) continue;
    const size_t open = line.find_first_of("\"<", word + 7);
    const size_t close = open == std::string::npos ? open : line.find_first_of("\">", open + 1);
    if (close == std::string::npos) continue;
    Include include{line.substr(open + 1, close - open - 1), ""};
    const std::string beside = std::filesystem::path(path).parent_path().generic_string() + "/";
    for (const std::string& root : {std::string("include/"), std::string(kSource), beside})
      if (include.target.empty() && tree.count(root + include.written)) include.target = root + include.written;
    found.push_back(std::move(include));
  }
  return found;
}

// The folders that `path` may use, as a sentence.
inline std::string rule_for(const std::string& path) {
  if (starts_with(path, kPublic)) return fmt::format("{} is of layer {}, and public headers use public headers only", path, layer_of(path));
  std::vector<std::string> allowed;
  for (const auto& [folder, number] : layers())
    if (number < layer_of(path)) allowed.push_back(folder);
  return allowed.empty() ? home_of(path) + " may use no other folder" : fmt::format("{} may use {}", home_of(path), fmt::join(allowed, ", "));
}

inline bool may_include(const std::string& from, const std::string& to) {
  const bool from_public = starts_with(from, kPublic), to_public = starts_with(to, kPublic);
  if (from_public) return to_public && layer_of(to) <= layer_of(from);
  if (to_public) return layer_of(to) <= layer_of(from);
  return home_of(from) == home_of(to) || layer_of(to) < layer_of(from);
}

// Upward and sideways includes, and files that no layer claims.
inline Violations wrong_includes(const SourceTree& tree) {
  Violations out;
  for (const auto& [path, text] : tree) {
    if (home_of(path).empty() || !is_source(path)) continue;
    if (layer_of(path) < 0) {
      out.push_back(fmt::format("{} has no layer: name {} in tests/house/layering.h", path, home_of(path)));
      continue;
    }
    for (const auto& [written, target] : includes_of(tree, path))
      if (!home_of(target).empty() && layer_of(target) >= 0 && !may_include(path, target))
        out.push_back(fmt::format("{} includes \"{}\": {}", path, target, rule_for(path)));
  }
  return out;
}

inline bool is_torch(std::string_view header) {
  return starts_with(header, "torch/") || starts_with(header, "ATen/") || starts_with(header, "c10/");
}

// The chain of files through which `path` reaches a libtorch header; empty when it reaches none.
inline std::vector<std::string> way_to_torch(const SourceTree& tree, const std::string& path, std::set<std::string>& seen) {
  if (!seen.insert(path).second) return {};
  for (const auto& [written, target] : includes_of(tree, path)) {
    if (target.empty() && is_torch(written)) return {path, written};
    if (target.empty()) continue;
    auto rest = way_to_torch(tree, target, seen);
    if (rest.empty()) continue;
    rest.insert(rest.begin(), path);
    return rest;
  }
  return {};
}

// libtorch where it must not be: anywhere within reach of a torch-free folder, and its largest header at all.
inline Violations wrong_torch(const SourceTree& tree) {
  Violations out;
  for (const auto& [path, text] : tree) {
    if (home_of(path).empty() || !is_source(path)) continue;
    for (const auto& include : includes_of(tree, path))
      if (include.written == "torch/torch.h")
        out.push_back(path + " includes torch/torch.h, which costs every file 15 s: include the header that is used (torch/types.h)");
    if (!starts_with(path, kSource) || !torch_free_folders().count(home_of(path))) continue;
    std::set<std::string> seen;
    if (const auto way = way_to_torch(tree, path, seen); !way.empty())
      out.push_back(fmt::format("{}: {} is free of libtorch", fmt::join(way, " includes "), home_of(path)));
  }
  return out;
}

// The comment at the top of a file: its first lines up to one that is neither comment nor empty.
inline std::string head_comment(const std::string& text) {
  std::string head;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (!line.empty() && !starts_with(line, "//")) break;
    head += line + "\n";
  }
  return head;
}

inline size_t count_lines(const std::string& text) { return static_cast<size_t>(std::count(text.begin(), text.end(), '\n')); }

inline Violations long_files(const SourceTree& tree) {
  Violations out;
  for (const auto& [path, text] : tree)
    if (is_source(path) && count_lines(text) > kLongFile && head_comment(text).find("long because") == std::string::npos)
      out.push_back(fmt::format("{} has {} lines; above {} the head comment says why ('long because ...'), or the file is divided",
                                path, count_lines(text), kLongFile));
  return out;
}

// Folders of src, and folders beside it, without a README.md or with one that nobody reads.
inline Violations wrong_readmes(const SourceTree& tree) {
  std::set<std::string> folders;
  for (const auto& [path, text] : tree) {
    const size_t first = path.find('/');
    if (first == std::string::npos) continue;
    const size_t second = path.find('/', first + 1);
    if (starts_with(path, kSource) && second != std::string::npos) folders.insert(path.substr(0, second));
    else if (!starts_with(path, kSource)) folders.insert(path.substr(0, first));
  }
  Violations out;
  for (const auto& folder : folders) {
    const auto readme = tree.find(folder + "/README.md");
    if (readme == tree.end())
      out.push_back(folder + " has no README.md: what belongs here, what does not, how to add one, the best file to read first");
    else if (count_lines(readme->second) > kLongReadme)
      out.push_back(fmt::format("{} has {} lines, expected at most {}", readme->first, count_lines(readme->second), kLongReadme));
  }
  return out;
}

}  // namespace switchyard::house
