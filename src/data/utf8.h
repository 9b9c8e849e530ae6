// What the corpus readers need to know about UTF-8, on top of io/tokenizer/utf8.h.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace switchyard::data {

// Offset of the first byte that does not belong to a well-formed character; empty for valid text.
[[nodiscard]] std::optional<size_t> find_invalid_utf8(std::string_view text);

// The largest character boundary of valid text at or before `position`.
[[nodiscard]] size_t character_boundary(std::string_view text, size_t position);

// Throws Error{checkpoint} with file, line, byte offset and the byte found unless `text` is valid UTF-8.
void check_utf8(std::string_view text, std::string_view file);

}  // namespace switchyard::data
