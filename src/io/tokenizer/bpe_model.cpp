// Byte-pair encoding: a word is taken apart into characters (or bytes), which are merged.
#include "io/tokenizer/byte_alphabet.h"
#include "io/tokenizer/byte_tokens.h"
#include "io/tokenizer/subword_model.h"
#include "io/tokenizer/token_cuts.h"
#include "io/tokenizer/utf8.h"
#include "switchyard/error.h"

#include <algorithm>

namespace switchyard::io {
namespace {

class BpeModel final : public SubwordModel {
 public:
  BpeModel(const BpeSpec& spec, bool is_byte_level, const std::string& name)
      : is_byte_level_(is_byte_level),
        fuse_unk_(spec.fuse_unk),
        ignore_merges_(spec.ignore_merges),
        has_affixes_(!spec.continuing_subword_prefix.empty() || !spec.end_of_word_suffix.empty()),
        prefix_(spec.continuing_subword_prefix),
        suffix_(spec.end_of_word_suffix) {
    if (is_byte_level && has_affixes_)
      fail(ErrorKind::unsupported, "{}: model: a prefix or suffix of sub-words with the pre_tokenizer ByteLevel is not supported", name);
    add_vocabulary(spec);
    spec.rank_by_id ? add_all_pairs() : add_merges(spec, name);
    if (spec.unk_token) {
      const auto unk = spec.vocab.find(*spec.unk_token);
      if (unk == spec.vocab.end()) fail(ErrorKind::checkpoint, "{}: model.unk_token: '{}' is not in model.vocab", name, *spec.unk_token);
      unk_id_ = unk->second;
    }
    if (spec.byte_fallback) byte_tokens_.emplace([&](const std::string& token) { return ids_.get(token); });
    add_cuts(spec);
  }

  void encode(std::string_view word, std::vector<int32_t>& ids, Scratch& scratch) const override {
    if (ignore_merges_)
      if (const auto whole = ids_.get(word)) return ids.push_back(*whole);
    scratch.ids.clear();
    if (is_byte_level_ && has_all_bytes_) {
      for (const char c : word) scratch.ids.push_back(byte_ids_[static_cast<unsigned char>(c)]);
    } else {
      append_symbols(word, scratch);
    }
    merger_.merge(scratch.ids, scratch.merging);
    ids.insert(ids.end(), scratch.ids.begin(), scratch.ids.end());
  }

  [[nodiscard]] const Splitter* cuts() const noexcept override { return cuts_ ? &*cuts_ : nullptr; }

 private:
  // Only where every symbol is its own text: with all byte tokens there is no unknown one, and these must not merge.
  void add_cuts(const BpeSpec& spec) {
    std::vector<int32_t> all_bytes;
    std::string every_byte;
    for (int byte = 0; byte < 256; ++byte) every_byte += static_cast<char>(byte);
    if (is_byte_level_ || ignore_merges_ || has_affixes_ || spec.rank_by_id || !byte_tokens_ || !byte_tokens_->append(every_byte, all_bytes)) return;
    for (const auto& [left, right] : spec.merges)
      if (byte_of_token(left) || byte_of_token(right)) return;
    cuts_.emplace();
    for (const auto& [left, right] : spec.merges) cuts_->add_token(left + right);
  }

  void add_vocabulary(const BpeSpec& spec) {
    ids_.reserve(spec.vocab.size());
    texts_.reserve(spec.vocab.size());
    byte_ids_.fill(-1);
    for (const auto& [token, id] : spec.vocab) {
      // Special tokens may hold characters outside the alphabet: no word is one of them.
      auto text = is_byte_level_ ? alphabet_to_bytes(token) : std::optional(token);
      if (!text) continue;
      if (text->size() == 1) byte_ids_[static_cast<unsigned char>(text->front())] = id;
      if (spec.rank_by_id) texts_.emplace_back(*text, id);
      ids_.set(*std::move(text), id);
    }
    has_all_bytes_ = std::all_of(byte_ids_.begin(), byte_ids_.end(), [](int32_t id) { return id >= 0; });
  }

  void add_merges(const BpeSpec& spec, const std::string& name) {
    merger_.reserve(spec.merges.size());
    for (size_t rank = 0; rank < spec.merges.size(); ++rank) {
      const auto& [left, right] = spec.merges[rank];
      const auto id_of = [&](const std::string& token) {
        const auto found = spec.vocab.find(token);
        if (found == spec.vocab.end())
          fail(ErrorKind::checkpoint, "{}: model.merges[{}]: '{}' + '{}' needs the token '{}', which is not in model.vocab", name, rank,
               spec.merges[rank].first, spec.merges[rank].second, token);
        return found->second;
      };
      const int32_t left_id = id_of(left), right_id = id_of(right);
      merger_.add(left_id, right_id, static_cast<int32_t>(rank), id_of(left + right.substr(std::min(prefix_.size(), right.size()))));
    }
  }

  void add_all_pairs() {
    for (const auto& [text, id] : texts_)
      for (size_t cut = 1; cut < text.size(); ++cut) {
        const auto left = ids_.get(std::string_view(text).substr(0, cut)), right = ids_.get(std::string_view(text).substr(cut));
        if (left && right) merger_.add(*left, *right, id, id);
      }
    texts_ = {};
  }

  // The ids of the characters of `word` in scratch.ids. Unknown ones as in Hugging Face tokenizers: a pending unknown
  // token is written when a known character follows.
  void append_symbols(std::string_view word, Scratch& scratch) const {
    bool unknown_pends = false;
    for (size_t begin = 0, end = 0; begin < word.size(); begin = end) {
      end = begin + (is_byte_level_ ? 1 : std::max<size_t>(1, decode_utf8(word, begin).bytes));
      std::string_view symbol = word.substr(begin, end - begin);
      if (has_affixes_) symbol = with_affixes(symbol, begin == 0, end == word.size(), scratch.text);
      if (const auto id = ids_.get(symbol)) {
        if (unknown_pends) scratch.ids.push_back(*unk_id_);
        unknown_pends = false;
        scratch.ids.push_back(*id);
      } else if (!byte_tokens_ || !byte_tokens_->append(symbol, scratch.ids)) {
        if (!unk_id_) refuse(symbol);
        if (unknown_pends && !fuse_unk_) scratch.ids.push_back(*unk_id_);
        unknown_pends = true;
      }
    }
    if (unknown_pends) scratch.ids.push_back(*unk_id_);
  }

  [[nodiscard]] std::string_view with_affixes(std::string_view symbol, bool is_first, bool is_last, std::string& text) const {
    text.clear();
    if (!is_first) text += prefix_;
    text += symbol;
    if (is_last) text += suffix_;
    return text;
  }

  [[noreturn]] static void refuse(std::string_view symbol) {
    if (symbol.size() == 1) fail(ErrorKind::unsupported, "byte 0x{:02x} of the text has no token in this vocabulary", static_cast<unsigned char>(symbol[0]));
    fail(ErrorKind::unsupported, "'{}' in the text has no token in this vocabulary", symbol);
  }

  bool is_byte_level_, fuse_unk_, ignore_merges_, has_affixes_;
  bool has_all_bytes_ = false;
  std::string prefix_, suffix_;
  TextMap ids_;                                         // of tokens, as bytes when byte-level
  std::vector<std::pair<std::string, int32_t>> texts_;  // while merges are made
  std::array<int32_t, 256> byte_ids_{};                 // -1: no token
  std::optional<int32_t> unk_id_;
  std::optional<ByteTokens> byte_tokens_;
  BpeMerger merger_;
  std::optional<TokenCuts> cuts_;
};

}  // namespace

std::unique_ptr<SubwordModel> make_bpe_model(const BpeSpec& spec, bool is_byte_level, const std::string& name) {
  return std::make_unique<BpeModel>(spec, is_byte_level, name);
}

}  // namespace switchyard::io
