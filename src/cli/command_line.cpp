#include "cli/command_line.h"

#include "base/files.h"

#include <algorithm>

namespace switchyard::cli {

std::string command_line() {
  std::string words = read_text_file("/proc/self/cmdline");
  while (!words.empty() && words.back() == '\0') words.pop_back();
  std::replace(words.begin(), words.end(), '\0', ' ');
  return words;
}

}  // namespace switchyard::cli
