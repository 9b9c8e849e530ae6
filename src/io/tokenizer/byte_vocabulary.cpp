#include "io/tokenizer/byte_vocabulary.h"

#include "io/tokenizer/byte_alphabet.h"

namespace switchyard::io {

nlohmann::json byte_level_component(bool add_prefix_space, bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", add_prefix_space}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

TokenizerSpec byte_vocabulary(bool splits_words) {
  BpeSpec model;
  for (int32_t byte = 0; byte < kNumBytes; ++byte) model.vocab[bytes_to_alphabet(std::string(1, static_cast<char>(byte)))] = byte;
  const std::string end_of_text = "<|endoftext|>";
  model.vocab[end_of_text] = kEndOfTextId;
  TokenizerSpec spec;
  spec.added_tokens.push_back({.id = kEndOfTextId, .content = end_of_text, .special = true});
  spec.pre_tokenizer = byte_level_component(/*add_prefix_space=*/false, splits_words);
  spec.decoder = byte_level_component(/*add_prefix_space=*/true, /*use_regex=*/true);
  spec.model = std::move(model);
  return spec;
}

}  // namespace switchyard::io
