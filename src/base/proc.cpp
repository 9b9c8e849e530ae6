#include "base/proc.h"

#include "base/files.h"
#include "switchyard/error.h"

#include <algorithm>
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

namespace {

// The number that a file begins with, or the one behind `key ` in one of its lines; -1 where there is none.
int64_t number_in(const std::filesystem::path& file, std::string_view key = "") {
  try {
    std::istringstream lines(read_text_file(file));
    for (std::string line; std::getline(lines, line);) {
      if (!key.empty() && (line.compare(0, key.size(), key) != 0 || line.size() <= key.size() || line[key.size()] != ' ')) continue;
      const size_t begin = key.empty() ? 0 : key.size() + 1;
      int64_t number = -1;
      std::from_chars(line.data() + begin, line.data() + line.size(), number);
      return number;  // -1: "max"
    }
  } catch (const Error&) {
    return -1;  // no such file
  }
  return -1;
}

}  // namespace

std::optional<GroupMemory> group_memory(const std::filesystem::path& folder) {
  constexpr int64_t kNoLimit = int64_t{1} << 60;  // version 1 writes the largest multiple of a page
  const struct {
    const char *limit, *used, *files;
  } versions[] = {{"memory.max", "memory.current", "inactive_file"}, {"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"}};
  for (const auto& names : versions) {
    const int64_t limit = number_in(folder / names.limit), used = number_in(folder / names.used);
    if (limit < 0 || limit >= kNoLimit || used < 0) continue;
    const int64_t files = std::max<int64_t>(number_in(folder / "memory.stat", names.files), 0);
    return GroupMemory{limit, std::clamp<int64_t>(limit - used + files, 0, limit)};
  }
  return std::nullopt;
}

std::optional<GroupMemory> group_memory() {
  for (const char* folder : {"/sys/fs/cgroup", "/sys/fs/cgroup/memory"})
    if (const auto group = group_memory(folder)) return group;
  return std::nullopt;
}

int64_t available_memory() {
  const int64_t machine = proc_bytes("/proc/meminfo", "MemAvailable");
  const auto group = group_memory();
  return group ? std::min(machine, group->available) : machine;
}

}  // namespace switchyard
