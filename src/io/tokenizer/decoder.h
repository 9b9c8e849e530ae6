// Decoders of tokenizer.json: tokens to a text.
#pragma once

#include "io/strict_json.h"

#include <functional>
#include <string>
#include <vector>

namespace switchyard::io {

class Decoder {
 public:
  using Tokens = std::vector<std::string>;
  using Step = std::function<void(Tokens& tokens)>;

  Decoder() : separator_(" ") {}  // tokens with spaces between
  // Throws Error{checkpoint} that names the key, and Error{unsupported} for a type that is not known.
  explicit Decoder(const JsonAt& component);

  // Bytes that are no UTF-8 stay as they are, so that every text comes back.
  // Departs from Hugging Face tokenizers, which put U+FFFD in their place. Throws Error{checkpoint} when the steps blow
  // the text up (regex.h).
  [[nodiscard]] std::string decode(Tokens tokens) const;

  // The first step turns the alphabet of byte_alphabet.h back into bytes. It is left to the caller, who knows which
  // tokens stand for themselves.
  [[nodiscard]] bool is_byte_level() const noexcept { return is_byte_level_; }

 private:
  std::vector<Step> steps_;
  std::string separator_;
  bool is_byte_level_ = false;
};

}  // namespace switchyard::io
