// Byte-level BPE: added tokens are cut out, the rest is normalised, split into words, and each word is merged.
#pragma once

#include "io/tokenizer/added_tokens.h"
#include "io/tokenizer/bpe_merger.h"
#include "io/tokenizer/splitter.h"
#include "io/tokenizer/tokenizer.h"
#include "io/tokenizer/tokenizer_spec.h"

#include <array>
#include <deque>
#include <memory>
#include <optional>
#include <unordered_map>

namespace switchyard::io {

class ByteLevelBpe final : public Tokenizer {
 public:
  // Throws Error{checkpoint} that starts with `name` when ids or merges contradict one another.
  ByteLevelBpe(TokenizerSpec spec, const std::string& name);

  [[nodiscard]] std::vector<int32_t> encode(std::string_view text, bool add_template) const override;
  [[nodiscard]] std::string decode(std::span<const int32_t> ids, bool skip_special) const override;
  [[nodiscard]] int64_t vocab_size() const override { return vocab_size_; }
  [[nodiscard]] std::optional<int32_t> token_to_id(std::string_view token) const override;
  [[nodiscard]] std::optional<int32_t> eos_id() const override { return eos_id_; }
  [[nodiscard]] std::optional<int32_t> bos_id() const override { return bos_id_; }
  [[nodiscard]] nlohmann::ordered_json to_json() const override;

  [[nodiscard]] const TokenizerSpec& spec() const noexcept { return spec_; }

 private:
  struct Token {
    std::string bytes;
    bool special = false;
  };
  class Encoding;  // the state of one call of encode

  void add_vocabulary(const std::string& name);
  void add_merges(const std::string& name);
  void add_added_tokens(const std::string& name);
  void check_template(const std::string& name) const;
  void choose_end_tokens();
  [[nodiscard]] std::optional<int32_t> first_special(std::span<const std::string_view> names) const;

  TokenizerSpec spec_;
  std::array<int32_t, 256> byte_ids_{};                 // -1: no token
  std::unordered_map<int32_t, Token> tokens_;           // by id
  std::unordered_map<std::string, int32_t> whole_words_;  // bytes of a token to its id, with ignore_merges
  BpeMerger merger_;
  std::vector<std::unique_ptr<Splitter>> splitters_;
  std::unique_ptr<AddedTokenFinder> raw_tokens_, normalized_tokens_;
  int64_t vocab_size_ = 0;
  std::optional<int32_t> eos_id_, bos_id_;
};

}  // namespace switchyard::io
