#include "io/tokenizer/byte_alphabet.h"

#include "io/tokenizer/utf8.h"

#include <array>

namespace switchyard::io {
namespace {

constexpr char32_t kFirstSubstitute = 0x100;

constexpr bool stands_for_itself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

struct Alphabet {
  std::array<char32_t, 256> character{};
  std::array<int, 0x144> byte{};  // -1: not in the alphabet

  constexpr Alphabet() {
    byte.fill(-1);
    char32_t substitute = kFirstSubstitute;
    for (int b = 0; b < 256; ++b) {
      const char32_t c = stands_for_itself(b) ? static_cast<char32_t>(b) : substitute++;
      character[static_cast<size_t>(b)] = c;
      byte[c] = b;
    }
  }
};

constexpr Alphabet kAlphabet;

}  // namespace

std::string bytes_to_alphabet(std::string_view bytes) {
  std::string token;
  for (const char c : bytes) append_utf8(token, kAlphabet.character[static_cast<unsigned char>(c)]);
  return token;
}

std::optional<std::string> alphabet_to_bytes(std::string_view token) {
  std::string bytes;
  for (size_t position = 0; position < token.size();) {
    const CodePoint c = decode_utf8(token, position);
    if (c.bytes == 0 || c.value >= kAlphabet.byte.size() || kAlphabet.byte[c.value] < 0) return std::nullopt;
    bytes += static_cast<char>(kAlphabet.byte[c.value]);
    position += c.bytes;
  }
  return bytes;
}

}  // namespace switchyard::io
