#include "base/proc.h"

#include "base/files.h"
#include "switchyard/error.h"

#include <charconv>
#include <sstream>

namespace switchyard {

std::string proc_value(const char* file, std::string_view key) {
  try {
    std::istringstream lines(read_text_file(file));
    for (std::string line; std::getline(lines, line);) {
      const auto colon = line.find(':');
      if (line.compare(0, key.size(), key) != 0 || colon == std::string::npos) continue;
      const auto begin = line.find_first_not_of(" \t", colon + 1);
      return begin == std::string::npos ? "" : line.substr(begin);
    }
  } catch (const Error&) {
    return "";  // no /proc here
  }
  return "";
}

int64_t proc_bytes(const char* file, std::string_view key) {
  const std::string value = proc_value(file, key);
  int64_t kilobytes = 0;
  std::from_chars(value.data(), value.data() + value.size(), kilobytes);
  return kilobytes * 1024;
}

int64_t available_memory() { return proc_bytes("/proc/meminfo", "MemAvailable"); }

}  // namespace switchyard
