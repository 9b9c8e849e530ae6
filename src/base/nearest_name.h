// "did you mean": the known name closest to a wrong one.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace switchyard {

// The candidate with the least edit distance, if that is at most a third of the word (and at least 1); "" otherwise.
[[nodiscard]] std::string nearest_name(std::string_view word, std::span<const std::string> candidates);

// "; did you mean 'x'?" or "; known: a, b, c".
[[nodiscard]] std::string suggestion(std::string_view word, std::span<const std::string> candidates);

}  // namespace switchyard
