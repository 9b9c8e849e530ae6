// The whole public face compiles from the installed headers alone, and they are of the version that was found.
#include <switchyard/switchyard.h>

#include <string_view>

static_assert(std::string_view(switchyard::kVersion) == FOUND_VERSION);
