// The vocabulary that byte tokenizer and trained BPE start from: byte b has id b, "<|endoftext|>" has id 256.
#pragma once

#include "io/tokenizer/tokenizer_spec.h"

namespace switchyard::io {

inline constexpr int32_t kNumBytes = 256;
inline constexpr int32_t kEndOfTextId = kNumBytes;

[[nodiscard]] TokenizerSpec byte_vocabulary();

}  // namespace switchyard::io
