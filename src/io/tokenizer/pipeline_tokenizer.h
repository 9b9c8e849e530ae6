// A tokenizer of parts, as a tokenizer.json describes it: added tokens are cut out, the rest is normalised and split into
// words, and a model turns each word into tokens. Decoding looks the tokens up and runs the decoder.
#pragma once

#include "io/tokenizer/added_tokens.h"
#include "io/tokenizer/decoder.h"
#include "io/tokenizer/normalizer.h"
#include "io/tokenizer/pre_tokenizer.h"
#include "io/tokenizer/subword_model.h"
#include "io/tokenizer/token_template.h"
#include "io/tokenizer/tokenizer.h"
#include "io/tokenizer/tokenizer_spec.h"

#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>

namespace switchyard::io {

class PipelineTokenizer final : public Tokenizer {
 public:
  // Throws Error{checkpoint} that starts with `name` when parts contradict one another, Error{unsupported} for a
  // component that is not known.
  PipelineTokenizer(TokenizerSpec spec, const std::string& name);
  ~PipelineTokenizer() override;

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
    std::string text;  // what the decoder gets
    bool special = false;
  };
  struct Workspace;
  class Encoding;  // one call of encode

  void add_components(const std::string& name);
  void add_vocabulary(const std::string& name);
  void add_added_tokens(const std::string& name);
  void check_template(const std::string& name) const;
  void choose_end_tokens();
  [[nodiscard]] std::optional<int32_t> first_special(std::span<const std::string_view> names) const;
  [[nodiscard]] std::unique_ptr<Workspace> borrow_workspace() const;
  void give_back(std::unique_ptr<Workspace> workspace) const;

  TokenizerSpec spec_;
  std::vector<NormalizerStep> normalizer_;
  PreTokenizer pre_tokenizer_;
  std::unique_ptr<SubwordModel> model_;
  TokenTemplate template_;
  Decoder decoder_;
  bool spells_bytes_ = false;  // words are spelt in the byte alphabet before the model sees them
  std::unordered_map<int32_t, Token> tokens_;
  std::unordered_map<std::string_view, int32_t> ids_;  // of spec_'s tokens
  std::unique_ptr<AddedTokenFinder> raw_tokens_, normalized_tokens_;
  int64_t vocab_size_ = 0;
  std::optional<int32_t> eos_id_, bos_id_;
  mutable std::mutex workspaces_mutex_;
  mutable std::vector<std::unique_ptr<Workspace>> workspaces_;  // those that no call uses now
};

}  // namespace switchyard::io
