// Byte fallback: tokens <0x00> ... <0xFF> for the bytes of what has no token.
#pragma once

#include "io/tokenizer/text_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

namespace switchyard::io {

[[nodiscard]] inline std::string byte_token(int byte) { return fmt::format("<0x{:02X}>", byte); }

// The byte that `token` spells, if it is a byte token.
[[nodiscard]] inline std::optional<char> byte_of_token(std::string_view token) {
  if (token.size() != 6 || token.substr(0, 3) != "<0x" || token.back() != '>') return std::nullopt;
  int value = 0;
  for (const char c : token.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (digit < 0) return std::nullopt;
    value = 16 * value + digit;
  }
  return static_cast<char>(value);
}

class ByteTokens {
 public:
  template <class FindId>  // std::optional<int32_t>(const std::string& token)
  explicit ByteTokens(FindId&& find) {
    for (int byte = 0; byte < 256; ++byte) ids_[static_cast<size_t>(byte)] = find(byte_token(byte)).value_or(-1);
  }

  // Appends the ids of the bytes; false, and nothing appended, when one has none.
  [[nodiscard]] bool append(std::string_view text, std::vector<int32_t>& ids) const {
    const auto id = [&](char c) { return ids_[static_cast<unsigned char>(c)]; };
    if (std::any_of(text.begin(), text.end(), [&](char c) { return id(c) < 0; })) return false;
    for (const char c : text) ids.push_back(id(c));
    return true;
  }

 private:
  std::array<int32_t, 256> ids_{};
};

}  // namespace switchyard::io
