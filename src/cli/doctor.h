// What this machine and this build can do, and why not.
#pragma once

#include <string>
#include <vector>

namespace switchyard::cli {

enum class Health {
  ok,
  warning,  // works, but not as it should
  absent,   // not here; nothing is wrong
};

struct Finding {
  std::string section, name, value;
  Health health = Health::ok;
  std::string advice = {};  // what it means or what to do; may be empty
};

[[nodiscard]] const char* name_of(Health health);
[[nodiscard]] std::vector<Finding> examine_machine();

}  // namespace switchyard::cli
