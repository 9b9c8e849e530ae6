#include "io/tokenizer/sentencepiece_segmenter.h"
#include "io/tokenizer/unigram_lattice.h"

#include <limits>

namespace switchyard::io {
namespace {

using Type = SentencePieceSpec::Type;
using Lattice = UnigramLattice<float>;

// A piece of the user wins against every segmentation of its text: it scores more than as many of the best pieces.
constexpr double kUserDefinedPenalty = 0.1;

Lattice make_lattice(const SentencePieceSpec& spec) {
  float best = std::numeric_limits<float>::min(), worst = std::numeric_limits<float>::max();
  for (const auto& piece : spec.pieces) {
    if (piece.type != Type::normal) continue;
    best = std::max(best, piece.score);
    worst = std::min(worst, piece.score);
  }
  std::vector<std::pair<std::string, int32_t>> keys;
  std::vector<double> scores;
  for (const auto& piece : spec.pieces) {
    const auto length = static_cast<float>(piece.text.size());
    if (piece.type == Type::normal || piece.type == Type::user_defined) keys.emplace_back(piece.text, static_cast<int32_t>(scores.size()));
    scores.push_back(piece.type == Type::user_defined ? static_cast<double>(length * best) - kUserDefinedPenalty : static_cast<double>(piece.score));
  }
  return {ByteTrie(std::move(keys)), std::move(scores), static_cast<double>(worst)};
}

class UnigramSegmenter final : public SentencePieceSegmenter {
 public:
  explicit UnigramSegmenter(const SentencePieceSpec& spec) : lattice_(make_lattice(spec)) {}

  void segment(std::string_view text, std::vector<Segment>& segments, SubwordModel::Scratch& scratch) const override {
    lattice_.segment(text, scratch.path, [&](size_t begin, size_t end, int32_t id) {
      segments.push_back({text.substr(begin, end - begin), id == Lattice::kUnknown ? -1 : id});
    });
  }

 private:
  Lattice lattice_;
};

}  // namespace

std::unique_ptr<SentencePieceSegmenter> make_unigram_segmenter(const SentencePieceSpec& spec) { return std::make_unique<UnigramSegmenter>(spec); }

}  // namespace switchyard::io
