#include "cli/output.h"

#include "switchyard/error.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>

namespace switchyard::cli {
namespace {

[[noreturn]] void stdout_failed() {
  const int reason = errno;
  if (reason == EPIPE) throw BrokenPipe{};
  fail(ErrorKind::io, "standard output: {}", std::strerror(reason));
}

size_t width_of(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::string scaled(double value, double base, const std::vector<const char*>& units) {
  size_t unit = 0;
  while (std::abs(value) >= base && unit + 1 < units.size()) {
    value /= base;
    ++unit;
  }
  if (unit == 0) return fmt::format("{:.0f}{}", value, units[0]);
  return fmt::format("{:.{}f}{}", value, std::abs(value) < 10 ? 2 : std::abs(value) < 100 ? 1 : 0, units[unit]);
}

}  // namespace

void write_result(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) stdout_failed();
}

void flush_result() {
  if (std::fflush(stdout) != 0) stdout_failed();
}

void print_json(const nlohmann::ordered_json& value) {
  write_result(value.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
}

void write_note(std::string_view line) {
  std::fwrite(line.data(), 1, line.size(), stderr);
  std::fputc('\n', stderr);
}

std::string format_table(const std::vector<Column>& columns, const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& column : columns) widths.push_back(width_of(column.title));
  for (const auto& row : rows)
    for (size_t i = 0; i < columns.size(); ++i) widths[i] = std::max(widths[i], width_of(row.at(i)));
  std::string out;
  const auto line = [&](const auto& cell) {
    std::string text;
    for (size_t i = 0; i < columns.size(); ++i) {
      const std::string& value = cell(i);
      const std::string gap(widths[i] - width_of(value), ' ');
      text += (i == 0 ? "" : "  ") + (columns[i].right ? gap + value : value + gap);
    }
    text.erase(text.find_last_not_of(' ') + 1);
    out += text + "\n";
  };
  line([&](size_t i) -> const std::string& { return columns[i].title; });
  for (const auto& row : rows) line([&](size_t i) -> const std::string& { return row[i]; });
  return out;
}

std::string format_bytes(double bytes) { return scaled(bytes, 1024, {" B", " KiB", " MiB", " GiB", " TiB"}); }

std::string format_count(double count) {
  if (std::abs(count) < 10000 && count == std::floor(count)) return fmt::format("{:.0f}", count);
  return scaled(count, 1000, {"", " k", " M", " G", " T", " P"});
}

std::string format_seconds(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "?";
  if (seconds < 60) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<long long>(seconds + 0.5);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole / 60 % 60);
}

}  // namespace switchyard::cli
