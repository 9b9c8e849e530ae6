// Text for pages: escaping, repair of UTF-8, and numbers as a reader likes them.
#pragma once

#include <string>
#include <string_view>

namespace switchyard::report {

// Valid UTF-8 of the same text: every byte that is no part of a well-formed sequence becomes U+FFFD. Line feeds stay
// where they are, so that line numbers of the original hold.
[[nodiscard]] std::string clean_utf8(std::string_view bytes);

// Text for HTML or SVG, as content or inside double quotes: repairs UTF-8, escapes & < > " ', and shows control
// characters other than tab, line feed and carriage return by their Unicode pictures (U+2400 + code).
[[nodiscard]] std::string escape(std::string_view text);

// The text of a JSON document for a <script> element: no "<" and no "&" is left that could end the element early.
[[nodiscard]] std::string escape_script_json(std::string_view json);

// What stands for a value that the run did not record.
inline constexpr const char* kNoValue = "\xE2\x80\x93";  // en dash

// 1234567 -> "1.23 M"; three significant digits with k, M, G, T from ten thousand on. Not finite: kNoValue.
[[nodiscard]] std::string short_number(double value);

// Fixed number of decimals with a real minus sign. Not finite: kNoValue.
[[nodiscard]] std::string fixed(double value, int decimals);

// 0.1234 -> "12.3%"; two significant digits below one per cent, and plain "0%" for zero. Not finite: kNoValue.
[[nodiscard]] std::string percent(double share);

// 222.4 -> "3 min 42 s"; "0.8 s" below ten seconds, hours and minutes from an hour on. Not finite: kNoValue.
[[nodiscard]] std::string duration(double seconds);

// "2025-05-17T14:02:11Z" -> "2025-05-17 14:02 UTC"; any other text stays as it is.
[[nodiscard]] std::string moment(const std::string& iso);

}  // namespace switchyard::report
