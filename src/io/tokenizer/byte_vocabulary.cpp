#include "io/tokenizer/byte_vocabulary.h"

#include "io/tokenizer/byte_alphabet.h"

namespace switchyard::io {

TokenizerSpec byte_vocabulary() {
  TokenizerSpec spec;
  for (int32_t byte = 0; byte < kNumBytes; ++byte) spec.vocab[bytes_to_alphabet(std::string(1, static_cast<char>(byte)))] = byte;
  const std::string end_of_text = "<|endoftext|>";
  spec.vocab[end_of_text] = kEndOfTextId;
  spec.added_tokens.push_back({.id = kEndOfTextId, .content = end_of_text, .special = true});
  return spec;
}

}  // namespace switchyard::io
