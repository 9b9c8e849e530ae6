#include "cli/size_text.h"

#include "switchyard/error.h"

#include <utility>
#include <vector>

namespace switchyard::cli {

int64_t parse_size(const std::string& option, const std::string& text) {
  size_t end = 0;
  double value = 0;
  try {
    value = std::stod(text, &end);
  } catch (const std::exception&) {
    end = 0;
  }
  const std::string unit = text.substr(end);
  const std::vector<std::pair<std::string, double>> units = {{"", 1}, {"B", 1}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9},
                                                             {"KiB", 1024.0}, {"MiB", 1048576.0}, {"GiB", 1073741824.0}};
  for (const auto& [name, factor] : units)
    if (end > 0 && unit == name && value * factor >= 1 && value * factor < 9e18) return static_cast<int64_t>(value * factor);
  fail(ErrorKind::usage, "{} {}: expected a size such as 500MB, 5GB or 2GiB", option, text);
}

}  // namespace switchyard::cli
