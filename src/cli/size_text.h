// Sizes of files as people write them.
#pragma once

#include <cstdint>
#include <string>

namespace switchyard::cli {

// "5GB", "200MB", "1048576": powers of 1000; with an i ("5GiB") of 1024. Throws Error{usage} that names `option`.
[[nodiscard]] int64_t parse_size(const std::string& option, const std::string& text);

}  // namespace switchyard::cli
