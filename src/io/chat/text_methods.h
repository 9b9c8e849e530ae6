// Operations on texts that filters and methods share.
#pragma once

#include "io/chat/builtins.h"

namespace switchyard::io::chat {

inline constexpr std::string_view kWhiteSpace = " \t\n\r\f\v";

[[nodiscard]] std::string change_case(std::string_view text, bool upper);
[[nodiscard]] std::string capitalized(std::string_view text);
[[nodiscard]] std::string title_case(std::string_view text);
// `count` < 0: every occurrence.
[[nodiscard]] std::string replace_all(std::string_view text, std::string_view old, std::string_view with, int64_t count, Budget& budget);

}  // namespace switchyard::io::chat
