// The printable alphabet of byte-level vocabularies: one character per byte. Printable Latin-1 bytes stand for
// themselves; the other 68 are U+0100, U+0101, ... in ascending order (so that a space is U+0120).
// Source: Radford et al. 2019 (GPT-2), byte-level BPE; the character table is that of the released vocabulary.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace switchyard::io {

[[nodiscard]] std::string bytes_to_alphabet(std::string_view bytes);

// Empty when a character does not belong to the alphabet.
[[nodiscard]] std::optional<std::string> alphabet_to_bytes(std::string_view token);

}  // namespace switchyard::io
