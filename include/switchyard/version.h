// Version of the headers. `switchyard_VERSION` of find_package says the same; tests/consumer checks that it does.
#pragma once

namespace switchyard {

inline constexpr const char* kVersion = "0.1.0";

}  // namespace switchyard
