// Byte-pair encoding of sentencepiece: two neighbours merge when their text is a piece, the best score first, of equal
// scores the leftmost. Pieces of the user stay as they are.
#include "io/tokenizer/byte_trie.h"
#include "io/tokenizer/sentencepiece_segmenter.h"
#include "io/tokenizer/text_map.h"
#include "io/tokenizer/utf8.h"

#include <algorithm>
#include <map>

namespace switchyard::io {
namespace {

using Type = SentencePieceSpec::Type;

size_t character_bytes(std::string_view text, size_t position) { return std::max<size_t>(1, decode_utf8(text, position).bytes); }

class BpeSegmenter final : public SentencePieceSegmenter {
 public:
  explicit BpeSegmenter(const SentencePieceSpec& spec) : spec_(spec), num_pieces_(static_cast<int32_t>(spec.pieces.size())) {
    add_symbols();
    add_merges();
  }

  void segment(std::string_view text, std::vector<Segment>& segments, SubwordModel::Scratch& scratch) const override {
    scratch.ids.clear();
    for (size_t position = 0; position < text.size();) {
      size_t bytes = 0;
      int32_t frozen = -1;
      user_pieces_.for_each_prefix(text, position, [&](size_t length, int32_t id) { bytes = length, frozen = id; });
      if (bytes == 0) bytes = character_bytes(text, position);
      scratch.ids.push_back(frozen >= 0 ? first_frozen_ + frozen : symbols_.get(text.substr(position, bytes)).value_or(first_frozen_ + num_pieces_));
      position += bytes;
    }
    merger_.merge(scratch.ids, scratch.merging);
    size_t begin = 0;
    for (const int32_t id : scratch.ids) append(text, begin, id, segments);
  }

 private:
  // Ids: the pieces; characters that stand in pieces but are none; pieces of the user, which merge with nothing; and one
  // for all other characters.
  void add_symbols() {
    std::vector<std::pair<std::string, int32_t>> user;
    for (int32_t id = 0; id < num_pieces_; ++id) {
      const auto& piece = spec_.pieces[static_cast<size_t>(id)];
      if (is_text_piece(piece)) symbols_.set(piece.text, id);
      if (piece.type == Type::user_defined) user.emplace_back(piece.text, id);
    }
    user_pieces_ = ByteTrie(std::move(user));
    first_frozen_ = num_pieces_;
    for (const auto& piece : spec_.pieces) {
      if (!is_text_piece(piece)) continue;
      for (size_t at = 0, bytes = 0; at < piece.text.size(); at += bytes) {
        bytes = character_bytes(piece.text, at);
        const std::string character = piece.text.substr(at, bytes);
        if (!symbols_.get(character)) symbols_.set(character, first_frozen_++);
      }
    }
  }

  void add_merges() {
    std::map<float, int32_t, std::greater<>> ranks;
    for (const auto& piece : spec_.pieces) ranks[piece.score] = 0;
    int32_t rank = 0;
    for (auto& [score, place] : ranks) place = rank++;
    for (int32_t id = 0; id < num_pieces_; ++id) {
      const auto& piece = spec_.pieces[static_cast<size_t>(id)];
      if (!is_text_piece(piece)) continue;
      const std::string_view text = piece.text;
      for (size_t cut = character_bytes(text, 0); cut < text.size(); cut += character_bytes(text, cut)) {
        const auto left = symbols_.get(text.substr(0, cut)), right = symbols_.get(text.substr(cut));
        if (!left || !right) continue;
        merger_.add(*left, *right, ranks[piece.score], id);
        if (piece.type == Type::unused) parts_[id] = {*left, *right};
      }
    }
  }

  // The segment of a symbol at `begin`, which moves behind it. An unused piece comes as the parts it was merged of.
  void append(std::string_view text, size_t& begin, int32_t id, std::vector<Segment>& segments) const {
    if (const auto parts = parts_.find(id); parts != parts_.end()) {
      append(text, begin, parts->second.first, segments);
      return append(text, begin, parts->second.second, segments);
    }
    const bool is_frozen = id >= first_frozen_ && id < first_frozen_ + num_pieces_;
    const int32_t piece = is_frozen ? id - first_frozen_ : id;
    const bool is_piece = piece < num_pieces_;
    const size_t bytes = is_piece ? spec_.pieces[static_cast<size_t>(piece)].text.size() : character_bytes(text, begin);
    const bool is_used = is_piece && spec_.pieces[static_cast<size_t>(piece)].type != Type::unused;
    segments.push_back({text.substr(begin, bytes), is_used ? piece : -1});
    begin += bytes;
  }

  const SentencePieceSpec& spec_;
  int32_t num_pieces_, first_frozen_ = 0;
  TextMap symbols_;
  ByteTrie user_pieces_;
  BpeMerger merger_;
  std::map<int32_t, std::pair<int32_t, int32_t>> parts_;  // of unused pieces
};

}  // namespace

std::unique_ptr<SentencePieceSegmenter> make_bpe_segmenter(const SentencePieceSpec& spec) { return std::make_unique<BpeSegmenter>(spec); }

}  // namespace switchyard::io
