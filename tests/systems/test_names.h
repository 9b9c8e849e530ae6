// Names of all tests of the repository, from their sources: so that a table may name tests of other programs.
#pragma once

#include "base/files.h"

#include <filesystem>
#include <map>
#include <regex>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard::systems {

// A GoogleTest filter of one pattern: * is any text, ? any character.
inline bool matches(std::string_view pattern, std::string_view name) {
  if (pattern.empty()) return name.empty();
  if (pattern[0] == '*') return matches(pattern.substr(1), name) || (!name.empty() && matches(pattern, name.substr(1)));
  return !name.empty() && (pattern[0] == '?' || pattern[0] == name[0]) && matches(pattern.substr(1), name.substr(1));
}

// "Suite.Name"; of a test with parameters "Instance/Suite.Name/", the parameter left out. Folders that no program is made
// of do not count.
inline std::vector<std::string> all_test_names() {
  const std::filesystem::path tests = std::filesystem::path(SW_SOURCE_DIR) / "tests";
  const std::string programs = read_text_file(tests / "CMakeLists.txt") + read_text_file(tests / "torch_tests.cmake");
  const std::regex plain(R"(\bTEST(_F)?\((\w+), (\w+)\))"), with_parameter(R"(\bTEST_P\((\w+), (\w+)\))"),
      instance(R"(\bINSTANTIATE_TEST_SUITE_P\((\w+), (\w+),)");
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(tests)) {
    if (entry.path().extension() != ".cpp") continue;
    if (!std::regex_search(programs, std::regex("[( ]" + entry.path().parent_path().filename().string() + "[ )]"))) continue;
    const std::string text = read_text_file(entry.path());
    const auto each = [&](const std::regex& form, auto use) {
      for (std::sregex_iterator i(text.begin(), text.end(), form), end; i != end; ++i) use(*i);
    };
    std::multimap<std::string, std::string> instances;
    each(plain, [&](const std::smatch& m) { names.push_back(m[2].str() + "." + m[3].str()); });
    each(instance, [&](const std::smatch& m) { instances.emplace(m[2].str(), m[1].str()); });
    each(with_parameter, [&](const std::smatch& m) {
      const auto [first, last] = instances.equal_range(m[1].str());
      for (auto i = first; i != last; ++i) names.push_back(i->second + "/" + m[1].str() + "." + m[2].str() + "/");
    });
  }
  return names;
}

inline bool some_test_matches(const std::string& filter) {
  static const std::vector<std::string> names = all_test_names();
  for (const auto& name : names)
    if (matches(filter, name)) return true;
  return false;
}

}  // namespace switchyard::systems
