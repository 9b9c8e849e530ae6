// systems.tsv, row by row.
#pragma once

#include "base/files.h"

#include <cctype>
#include <filesystem>
#include <ostream>
#include <sstream>
#include <string>
#include <vector>

namespace switchyard::systems {

struct System {
  std::string id, name, kind, ref, files, recipe, tests;
};
inline std::ostream& operator<<(std::ostream& out, const System& s) { return out << s.id; }

inline std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, separator);) parts.push_back(part);
  return parts;
}

inline const std::filesystem::path& root() {
  static const std::filesystem::path path = SW_SOURCE_DIR;
  return path;
}

inline const std::vector<std::string>& lines() {
  static const std::vector<std::string> all = split(read_text_file(root() / "systems.tsv"), '\n');
  return all;
}

// Rows with seven columns; the others are reported by a test.
inline const std::vector<System>& rows() {
  static const std::vector<System> all = [] {
    std::vector<System> out;
    for (size_t i = 1; i < lines().size(); ++i)
      if (const auto c = split(lines()[i], '\t'); c.size() == 7) out.push_back({c[0], c[1], c[2], c[3], c[4], c[5], c[6]});
    return out;
  }();
  return all;
}

// An id as GoogleTest wants names.
inline std::string test_name(std::string id) {
  for (char& c : id)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return id;
}

}  // namespace switchyard::systems
