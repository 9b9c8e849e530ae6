// What the program prints: results on stdout, progress and notes on stderr.
#pragma once

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace switchyard::cli {

// Thrown when the reader of our stdout went away (`switchyard ... | head`): the program ends quietly.
struct BrokenPipe {};

// Writes to stdout. Throws BrokenPipe, or Error{io} when the system refuses (a full disk).
void write_result(std::string_view text);
void flush_result();

template <class... Args> void print_result(fmt::format_string<Args...> text, Args&&... args) {
  write_result(fmt::format(text, std::forward<Args>(args)...));
}

// Indented by two; bytes that are no UTF-8 become U+FFFD.
void print_json(const nlohmann::ordered_json& value);

// One line on stderr. A stderr that is gone is no reason to stop.
void write_note(std::string_view line);

template <class... Args> void note(fmt::format_string<Args...> text, Args&&... args) {
  write_note(fmt::format(text, std::forward<Args>(args)...));
}

struct Column {
  std::string title;
  bool right = false;  // numbers
};

// Columns as wide as their longest cell (in characters), two spaces between them, no space at the end of a line.
[[nodiscard]] std::string format_table(const std::vector<Column>& columns, const std::vector<std::vector<std::string>>& rows);

[[nodiscard]] std::string format_bytes(double bytes);    // "1.5 GiB"
[[nodiscard]] std::string format_count(double count);    // "1.25 M"; whole numbers below 10000 as they are
[[nodiscard]] std::string format_seconds(double seconds);  // "3 h 12 min", "4 min 07 s", "12.3 s"

}  // namespace switchyard::cli
