// WordPiece: from the left, always the longest token; a word that cannot be put together is unknown as a whole.
// Source: Wu et al., arXiv:1609.08144, section 4.1, with the greedy search of BERT (Devlin et al., arXiv:1810.04805).
#include "io/tokenizer/byte_trie.h"
#include "io/tokenizer/subword_model.h"
#include "io/tokenizer/utf8.h"
#include "switchyard/error.h"

#include <algorithm>

namespace switchyard::io {
namespace {

int64_t num_characters(std::string_view text) {
  int64_t count = 0;
  for (size_t position = 0; position < text.size(); ++count) position += std::max<size_t>(1, decode_utf8(text, position).bytes);
  return count;
}

class WordPieceModel final : public SubwordModel {
 public:
  WordPieceModel(const WordPieceSpec& spec, const std::string& name) : max_chars_(spec.max_input_chars_per_word) {
    std::vector<std::pair<std::string, int32_t>> first, later;
    const std::string& prefix = spec.continuing_subword_prefix;
    for (const auto& [token, id] : spec.vocab) {
      first.emplace_back(token, id);
      if (token.size() > prefix.size() && token.compare(0, prefix.size(), prefix) == 0) later.emplace_back(token.substr(prefix.size()), id);
    }
    first_ = ByteTrie(std::move(first));
    later_ = ByteTrie(std::move(later));
    const auto unk = spec.vocab.find(spec.unk_token);
    if (unk == spec.vocab.end()) fail(ErrorKind::checkpoint, "{}: model.unk_token: '{}' is not in model.vocab", name, spec.unk_token);
    unk_id_ = unk->second;
  }

  void encode(std::string_view word, std::vector<int32_t>& ids, Scratch&) const override {
    if (num_characters(word) > max_chars_) return ids.push_back(unk_id_);
    const size_t before = ids.size();
    for (size_t begin = 0; begin < word.size();) {
      size_t longest = 0;
      int32_t found = -1;
      (begin == 0 ? first_ : later_).for_each_prefix(word, begin, [&](size_t length, int32_t id) { longest = length, found = id; });
      if (longest == 0) {
        ids.resize(before);
        return ids.push_back(unk_id_);
      }
      ids.push_back(found);
      begin += longest;
    }
  }

 private:
  int64_t max_chars_;
  ByteTrie first_, later_;  // tokens that begin a word; tokens that go on, without their prefix
  int32_t unk_id_ = 0;
};

}  // namespace

std::unique_ptr<SubwordModel> make_word_piece_model(const WordPieceSpec& spec, const std::string& name) { return std::make_unique<WordPieceModel>(spec, name); }

}  // namespace switchyard::io
