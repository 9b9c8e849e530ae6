#include "io/tokenizer/sentencepiece_tokenizer.h"

#include "io/tokenizer/byte_tokens.h"
#include "io/tokenizer/regex.h"
#include "io/tokenizer/sentencepiece_convert.h"
#include "io/tokenizer/tokenizer_json.h"
#include "switchyard/error.h"

namespace switchyard::io {
namespace {

using Type = SentencePieceSpec::Type;

}  // namespace

SentencePieceTokenizer::SentencePieceTokenizer(std::string model, SentencePieceEnds ends, const std::string& name)
    : model_(std::move(model)),
      spec_(read_sentencepiece_model(model_, name)),
      ends_(ends),
      normalizer_(spec_, name),
      segmenter_(spec_.model == SentencePieceSpec::Model::bpe ? make_bpe_segmenter(spec_) : make_unigram_segmenter(spec_)) {
  for (size_t i = 0; i < spec_.pieces.size(); ++i) {
    const auto& piece = spec_.pieces[i];
    const auto id = static_cast<int32_t>(i);
    ids_[piece.text] = id;
    if (piece.type == Type::unknown) unk_id_ = id;
    if (piece.type != Type::byte) continue;
    const auto byte = byte_of_token(piece.text);
    if (!byte) fail(ErrorKind::checkpoint, "{}: piece {}: '{}' is no byte; expected <0x00> to <0xFF>", name, id, piece.text);
    byte_ids_[static_cast<unsigned char>(*byte)] = id;
  }
  bos_id_ = control_id(spec_.bos_piece);
  eos_id_ = control_id(spec_.eos_piece);
  if (ends.add_bos && !bos_id_) fail(ErrorKind::checkpoint, "{}: no control piece '{}' to begin a text with", name, spec_.bos_piece);
  if (ends.add_eos && !eos_id_) fail(ErrorKind::checkpoint, "{}: no control piece '{}' to end a text with", name, spec_.eos_piece);
}

std::optional<int32_t> SentencePieceTokenizer::control_id(std::string_view piece) const {
  const auto id = token_to_id(piece);
  return id && spec_.pieces[static_cast<size_t>(*id)].type == Type::control ? id : std::nullopt;
}

std::optional<int32_t> SentencePieceTokenizer::token_to_id(std::string_view token) const {
  const auto found = ids_.find(token);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

std::vector<int32_t> SentencePieceTokenizer::encode(std::string_view text, bool add_template) const {
  std::vector<int32_t> ids;
  if (add_template && ends_.add_bos) ids.push_back(*bos_id_);
  const std::string normal = normalizer_(text);
  std::vector<SentencePieceSegmenter::Segment> segments;
  SubwordModel::Scratch scratch;
  segmenter_->segment(normal, segments, scratch);
  bool behind_unknown = false;
  for (const auto& [piece, id] : segments) {
    if (id >= 0) {
      ids.push_back(id);
    } else if (spec_.byte_fallback) {
      for (const char c : piece) ids.push_back(byte_ids_[static_cast<unsigned char>(c)]);
    } else if (!behind_unknown) {  // one unknown piece for a run
      ids.push_back(unk_id_);
    }
    behind_unknown = id < 0;
  }
  if (add_template && ends_.add_eos) ids.push_back(*eos_id_);
  return ids;
}

std::string SentencePieceTokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  std::string text;
  // The blank in front of the first piece stands for nothing in the text.
  bool at_start = spec_.add_dummy_prefix || spec_.remove_extra_whitespaces;
  for (const int32_t id : ids) {
    if (id < 0 || id >= vocab_size()) fail(ErrorKind::usage, "token id {} is not in the vocabulary of {} ids", id, vocab_size());
    const auto& piece = spec_.pieces[static_cast<size_t>(id)];
    if (piece.type == Type::control) {
      if (!skip_special) text += piece.text;
      continue;
    }
    if (piece.type == Type::unknown) {
      text += skip_special ? spec_.unk_surface : piece.text;
    } else if (piece.type == Type::byte) {
      text += *byte_of_token(piece.text);
    } else {
      std::string_view rest = piece.text;
      if (at_start && rest.starts_with(kMetaSpace)) {
        rest.remove_prefix(kMetaSpace.size());
        at_start = spec_.remove_extra_whitespaces && rest.empty();
      }
      text += replace_matches(find_literal(std::string(kMetaSpace)), rest, " ");
    }
    at_start = at_start && text.empty();
  }
  return text;
}

nlohmann::ordered_json SentencePieceTokenizer::to_json() const {
  TokenizerSpec spec = convert_sentencepiece(spec_, ends_);
  spec.sentencepiece_model = model_;
  return write_tokenizer_json(spec);
}

}  // namespace switchyard::io
