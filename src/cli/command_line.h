// The words that started this process.
#pragma once

#include <string>

namespace switchyard::cli {

// With spaces between them, for run.json.
[[nodiscard]] std::string command_line();

}  // namespace switchyard::cli
