// A tokenizer that does what the sentencepiece library does with a .model file. Control pieces (<s>, </s>) that a text
// spells stay text, unlike added tokens of a tokenizer.json.
#pragma once

#include "io/tokenizer/sentencepiece_normalizer.h"
#include "io/tokenizer/sentencepiece_segmenter.h"
#include "io/tokenizer/token_template.h"
#include "io/tokenizer/tokenizer.h"

#include <array>
#include <memory>
#include <unordered_map>

namespace switchyard::io {

// A .model file has no template: whether BOS and EOS stand around a text is said elsewhere.
struct SentencePieceEnds {
  bool add_bos = false, add_eos = false;
};

class SentencePieceTokenizer final : public Tokenizer {
 public:
  // `model`: the bytes of the file. Throws as read_sentencepiece_model does.
  SentencePieceTokenizer(std::string model, SentencePieceEnds ends, const std::string& name);

  [[nodiscard]] std::vector<int32_t> encode(std::string_view text, bool add_template) const override;
  // Unknown pieces come as the model's unk_surface; bytes that are no UTF-8 stay as they are.
  [[nodiscard]] std::string decode(std::span<const int32_t> ids, bool skip_special) const override;
  [[nodiscard]] int64_t vocab_size() const override { return static_cast<int64_t>(spec_.pieces.size()); }
  [[nodiscard]] std::optional<int32_t> token_to_id(std::string_view token) const override;
  [[nodiscard]] std::optional<int32_t> eos_id() const override { return eos_id_; }
  [[nodiscard]] std::optional<int32_t> bos_id() const override { return bos_id_; }
  // Holds the model as well, so that the same tokenizer is read back. Others read the conversion that is usual for such
  // files; it finds control pieces in the text.
  [[nodiscard]] nlohmann::ordered_json to_json() const override;

 private:
  [[nodiscard]] std::optional<int32_t> control_id(std::string_view piece) const;

  std::string model_;
  SentencePieceSpec spec_;
  SentencePieceEnds ends_;
  SentencePieceNormalizer normalizer_;
  std::unique_ptr<SentencePieceSegmenter> segmenter_;
  std::unordered_map<std::string_view, int32_t> ids_;
  std::array<int32_t, 256> byte_ids_{};
  int32_t unk_id_ = 0;
  std::optional<int32_t> bos_id_, eos_id_;
};

}  // namespace switchyard::io
