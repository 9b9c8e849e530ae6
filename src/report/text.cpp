#include "report/text.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <cstdint>

namespace switchyard::report {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

bool is_continuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

// Length of the well-formed UTF-8 sequence at the front of `s` (table 3-7 of the Unicode standard), or 0.
size_t sequence_length(std::string_view s) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(s[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xC2 && lead <= 0xDF ? 2 : (lead & 0xF0) == 0xE0 ? 3 : lead >= 0xF0 && lead <= 0xF4 ? 4 : 0;
  if (length == 0 || s.size() < length) return 0;
  for (size_t i = 1; i < length; ++i)
    if (!is_continuation(s[i])) return 0;
  if (lead == 0xE0 && byte(1) < 0xA0) return 0;  // overlong
  if (lead == 0xED && byte(1) > 0x9F) return 0;  // surrogate
  if (lead == 0xF0 && byte(1) < 0x90) return 0;  // overlong
  if (lead == 0xF4 && byte(1) > 0x8F) return 0;  // beyond U+10FFFF
  return length;
}

void append_control_picture(std::string& out, unsigned char c) {
  const unsigned code = c == 0x7F ? 0x2421u : 0x2400u + c;
  out += '\xE2';
  out += static_cast<char>(0x80 | ((code >> 6) & 0x3F));
  out += static_cast<char>(0x80 | (code & 0x3F));
}

std::string trim_zeros(std::string text) {
  if (text.find('.') == std::string::npos) return text;
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text;
}

}  // namespace

std::string clean_utf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  for (size_t i = 0; i < bytes.size();) {
    const size_t length = sequence_length(bytes.substr(i));
    out += length > 0 ? bytes.substr(i, length) : kReplacement;
    i += length > 0 ? length : 1;
  }
  return out;
}

std::string escape(std::string_view text) {
  std::string out;
  out.reserve(text.size() + text.size() / 8);
  for (const char c : clean_utf8(text)) {
    const auto byte = static_cast<unsigned char>(c);
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\'': out += "&#39;"; break;
      case '\t':
      case '\n':
      case '\r': out += c; break;
      default:
        if (byte < 0x20 || byte == 0x7F)
          append_control_picture(out, byte);
        else
          out += c;
    }
  }
  return out;
}

std::string escape_script_json(std::string_view json) {
  std::string out;
  out.reserve(json.size());
  for (const char c : json) {
    if (c == '<')
      out += "\\u003c";
    else if (c == '&')
      out += "\\u0026";
    else
      out += c;
  }
  return out;
}

std::string short_number(double value) {
  if (!std::isfinite(value)) return kNoValue;
  const double size = std::fabs(value);
  if (size < 1e4) {
    if (size >= 1000) return fixed(value, 0);
    return trim_zeros(fmt::format("{:.{}f}", value, size >= 100 ? 0 : size >= 10 ? 1 : 2));
  }
  constexpr std::array<const char*, 5> kUnits = {"k", "M", "G", "T", "P"};
  double scaled = value / 1e3;
  size_t unit = 0;
  while (std::fabs(scaled) >= 999.5 && unit + 1 < kUnits.size()) {
    scaled /= 1e3;
    ++unit;
  }
  const double s = std::fabs(scaled);
  return fmt::format("{:.{}f} {}", scaled, s >= 99.95 ? 0 : s >= 9.995 ? 1 : 2, kUnits[unit]);
}

std::string fixed(double value, int decimals) {
  if (!std::isfinite(value)) return kNoValue;
  std::string digits = fmt::format("{:.{}f}", std::fabs(value), decimals);
  const bool zero = digits.find_first_not_of("0.") == std::string::npos;
  return value < 0 && !zero ? "\xE2\x88\x92" + digits : digits;  // U+2212
}

std::string percent(double share) {
  if (!std::isfinite(share)) return kNoValue;
  const double p = 100 * share;
  if (p == 0) return "0%";
  const double size = std::fabs(p);
  if (size < 0.01) return "<0.01%";
  return fixed(p, size < 1 ? 2 : 1) + "%";
}

std::string duration(double seconds) {
  if (!std::isfinite(seconds)) return kNoValue;
  if (std::fabs(seconds) >= 1e12) return short_number(seconds) + " s";
  if (seconds < 9.95) return fixed(seconds, 1) + " s";
  const auto total = static_cast<int64_t>(std::llround(seconds));
  if (total < 60) return fmt::format("{} s", total);
  if (total < 3600) return fmt::format("{} min {} s", total / 60, total % 60);
  const int64_t minutes = (total + 30) / 60;
  return fmt::format("{} h {} min", minutes / 60, minutes % 60);
}

std::string moment(const std::string& iso) {
  const bool fits = iso.size() == 20 && iso[10] == 'T' && iso[13] == ':' && iso.back() == 'Z';
  return fits ? iso.substr(0, 10) + " " + iso.substr(11, 5) + " UTC" : iso;
}

}  // namespace switchyard::report
