// The vocabulary that byte tokenizer and trained BPE start from: byte b has id b, "<|endoftext|>" has id 256.
#pragma once

#include "io/tokenizer/tokenizer_spec.h"

namespace switchyard::io {

inline constexpr int32_t kNumBytes = 256;
inline constexpr int32_t kEndOfTextId = kNumBytes;

// `splits_words`: as GPT-2 does; otherwise a text is one word.
[[nodiscard]] TokenizerSpec byte_vocabulary(bool splits_words);

[[nodiscard]] nlohmann::json byte_level_component(bool add_prefix_space, bool use_regex);

}  // namespace switchyard::io
