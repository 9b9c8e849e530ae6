// Unigram language model of tokenizer.json.
#include "io/tokenizer/byte_tokens.h"
#include "io/tokenizer/subword_model.h"
#include "io/tokenizer/unigram_lattice.h"
#include "switchyard/error.h"

#include <limits>

namespace switchyard::io {
namespace {

using Lattice = UnigramLattice<double>;

Lattice make_lattice(const UnigramSpec& spec) {
  std::vector<std::pair<std::string, int32_t>> keys;
  std::vector<double> scores;
  double min_score = std::numeric_limits<double>::infinity();
  for (const auto& [piece, score] : spec.pieces) {
    keys.emplace_back(piece, static_cast<int32_t>(scores.size()));
    scores.push_back(score);
    min_score = std::min(min_score, score);
  }
  return {ByteTrie(std::move(keys)), std::move(scores), min_score};
}

class UnigramModel final : public SubwordModel {
 public:
  UnigramModel(const UnigramSpec& spec, const std::string& name) : lattice_(make_lattice(spec)), unk_id_(spec.unk_id) {
    if (unk_id_ && static_cast<size_t>(*unk_id_) >= spec.pieces.size())
      fail(ErrorKind::checkpoint, "{}: model.unk_id: {}, but model.vocab has {} pieces", name, *unk_id_, spec.pieces.size());
    for (size_t i = 0; i < spec.pieces.size(); ++i) ids_.set(spec.pieces[i].first, static_cast<int32_t>(i));
    if (spec.byte_fallback) byte_tokens_.emplace([&](const std::string& token) { return ids_.get(token); });
  }

  // A run of unknown characters is one piece, as in Hugging Face tokenizers.
  void encode(std::string_view word, std::vector<int32_t>& ids, Scratch& scratch) const override {
    size_t unknown_begin = 0, unknown_end = 0;
    const auto flush = [&] {
      if (unknown_begin < unknown_end) append_unknown(word.substr(unknown_begin, unknown_end - unknown_begin), ids);
      unknown_begin = unknown_end;
    };
    lattice_.segment(word, scratch.path, [&](size_t begin, size_t end, int32_t id) {
      if (id == Lattice::kUnknown || (unk_id_ && id == *unk_id_)) {
        if (unknown_begin == unknown_end) unknown_begin = begin;
        unknown_end = end;
        return;
      }
      flush();
      ids.push_back(id);
    });
    flush();
  }

 private:
  void append_unknown(std::string_view text, std::vector<int32_t>& ids) const {
    if (const auto id = ids_.get(text)) return ids.push_back(*id);
    if (byte_tokens_ && byte_tokens_->append(text, ids)) return;
    if (!unk_id_) fail(ErrorKind::unsupported, "'{}' in the text has no piece, and the vocabulary has no unknown piece", text);
    ids.push_back(*unk_id_);
  }

  Lattice lattice_;
  TextMap ids_;
  std::optional<int32_t> unk_id_;
  std::optional<ByteTokens> byte_tokens_;
};

}  // namespace

std::unique_ptr<SubwordModel> make_unigram_model(const UnigramSpec& spec, const std::string& name) { return std::make_unique<UnigramModel>(spec, name); }

}  // namespace switchyard::io
