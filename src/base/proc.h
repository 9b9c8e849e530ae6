// What the system tells in files below /proc and /sys/fs/cgroup.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace switchyard {

// The value of the line "key : value", without blanks before it; "" where there is no such line or no such file.
[[nodiscard]] std::string proc_value(const char* file, std::string_view key);
// Of a line such as "VmHWM:   123 kB", in bytes; 0 where there is none.
[[nodiscard]] int64_t proc_bytes(const char* file, std::string_view key);

// Memory of a control group, read from the files of its folder, version 2 or 1.
struct GroupMemory {
  int64_t limit = 0;      // bytes
  int64_t available = 0;  // of them: the limit less what the group uses, but for files that the system may forget
};
// Nothing where the group has no limit, or there is no such folder.
[[nodiscard]] std::optional<GroupMemory> group_memory(const std::filesystem::path& folder);
// Of the group of this process, as a container sees it.
[[nodiscard]] std::optional<GroupMemory> group_memory();

// What programs can still allocate without swapping, within the limit of their control group; 0 where the system does not tell.
[[nodiscard]] int64_t available_memory();

}  // namespace switchyard
