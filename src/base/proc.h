// What the system tells in files below /proc.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace switchyard {

// The value of the line "key : value", without blanks before it; "" where there is no such line or no such file.
[[nodiscard]] std::string proc_value(const char* file, std::string_view key);
// Of a line such as "VmHWM:   123 kB", in bytes; 0 where there is none.
[[nodiscard]] int64_t proc_bytes(const char* file, std::string_view key);
// What programs can still allocate without swapping; 0 where the system does not tell.
[[nodiscard]] int64_t available_memory();

}  // namespace switchyard
