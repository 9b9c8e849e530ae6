#include "io/tokenizer/byte_level_bpe.h"

#include "io/tokenizer/byte_alphabet.h"
#include "io/tokenizer/tokenizer_json.h"
#include "switchyard/error.h"

#include <algorithm>
#include <set>

namespace switchyard::io {
namespace {

// Names that published vocabularies give to the end and the start of a document, the end of a document before the end
// of a turn.
constexpr std::string_view kEosNames[] = {"<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<｜end▁of▁sentence｜>",
                                          "<|eot_id|>",    "<|im_end|>"};
constexpr std::string_view kBosNames[] = {"<|begin_of_text|>", "<s>", "<bos>", "<｜begin▁of▁sentence｜>", "<|startoftext|>"};

constexpr size_t kLongestCachedWord = 64;  // longer ones seldom come twice

}  // namespace

ByteLevelBpe::ByteLevelBpe(TokenizerSpec spec, const std::string& name) : spec_(std::move(spec)) {
  add_vocabulary(name);
  add_merges(name);
  add_added_tokens(name);
  check_template(name);
  for (size_t i = 0; i < spec_.splits.size(); ++i)
    splitters_.push_back(make_splitter(spec_.splits[i], fmt::format("{}: pre_tokenizer, Split {}", name, i)));
  if (spec_.use_gpt2_split) splitters_.push_back(make_gpt2_splitter());
  choose_end_tokens();
}

void ByteLevelBpe::add_vocabulary(const std::string& name) {
  byte_ids_.fill(-1);
  for (const auto& [token, id] : spec_.vocab) {
    const auto bytes = alphabet_to_bytes(token);  // special tokens may hold other characters: they stand for themselves
    if (!tokens_.emplace(id, Token{bytes.value_or(token), false}).second)
      fail(ErrorKind::checkpoint, "{}: model.vocab: id {} is given twice, once to '{}'", name, id, token);
    if (bytes && bytes->size() == 1) byte_ids_[static_cast<unsigned char>(bytes->front())] = id;
    if (bytes && spec_.ignore_merges) whole_words_.emplace(*bytes, id);
    vocab_size_ = std::max(vocab_size_, int64_t{id} + 1);
  }
}

void ByteLevelBpe::add_merges(const std::string& name) {
  for (size_t rank = 0; rank < spec_.merges.size(); ++rank) {
    const std::string& left = spec_.merges[rank].first;
    const std::string& right = spec_.merges[rank].second;
    const auto id_of = [&](const std::string& token) {
      const auto found = spec_.vocab.find(token);
      if (found == spec_.vocab.end())
        fail(ErrorKind::checkpoint, "{}: model.merges[{}]: '{}' + '{}' needs the token '{}', which is not in model.vocab", name,
             rank, left, right, token);
      return found->second;
    };
    merger_.add(id_of(left), id_of(right), static_cast<int32_t>(rank), id_of(left + right));
  }
}

void ByteLevelBpe::add_added_tokens(const std::string& name) {
  std::vector<const AddedToken*> raw, normalized;
  std::vector<std::string> raw_contents, normalized_contents;
  std::set<std::string_view> seen;
  for (const AddedToken& token : spec_.added_tokens) {
    if (!seen.insert(token.content).second)
      fail(ErrorKind::checkpoint, "{}: added token '{}' is given twice", name, token.content);
    const auto in_vocab = spec_.vocab.find(token.content);
    if (in_vocab != spec_.vocab.end() && in_vocab->second != token.id)
      fail(ErrorKind::checkpoint, "{}: added token '{}' has id {}, model.vocab gives it {}", name, token.content, token.id,
           in_vocab->second);
    if (in_vocab == spec_.vocab.end() && tokens_.count(token.id) > 0)
      fail(ErrorKind::checkpoint, "{}: added token '{}' has id {}, which belongs to another token", name, token.content, token.id);
    // Departs from Hugging Face: their decoder reads an added token through the byte alphabet where it can, so that an
    // added token 'é' would not come back. Ours is the text that was found.
    tokens_[token.id] = {token.content, token.special};
    vocab_size_ = std::max(vocab_size_, int64_t{token.id} + 1);
    if (token.normalized) {
      normalized.push_back(&token);
      std::string content = token.content;
      for (const NormalForm form : spec_.normalizers) content = normalize(content, form);
      normalized_contents.push_back(std::move(content));
    } else {
      raw.push_back(&token);
      raw_contents.push_back(token.content);
    }
  }
  raw_tokens_ = std::make_unique<AddedTokenFinder>(raw, std::move(raw_contents));
  normalized_tokens_ = std::make_unique<AddedTokenFinder>(normalized, std::move(normalized_contents));
}

void ByteLevelBpe::check_template(const std::string& name) const {
  for (const auto* tokens : {&spec_.prefix, &spec_.suffix})
    for (const TemplateToken& token : *tokens)
      if (tokens_.count(token.id) == 0)
        fail(ErrorKind::checkpoint, "{}: post_processor: token '{}' has id {}, which is not in the vocabulary", name, token.name,
             token.id);
}

// A template that ends with one special token ends documents with it; otherwise the usual names decide.
void ByteLevelBpe::choose_end_tokens() {
  const auto only_id = [](const std::vector<TemplateToken>& tokens) -> std::optional<int32_t> {
    if (tokens.size() != 1) return std::nullopt;
    return tokens.front().id;
  };
  eos_id_ = only_id(spec_.suffix);
  bos_id_ = only_id(spec_.prefix);
  if (!eos_id_) eos_id_ = first_special(kEosNames);
  if (!bos_id_) bos_id_ = first_special(kBosNames);
}

std::optional<int32_t> ByteLevelBpe::first_special(std::span<const std::string_view> names) const {
  for (const std::string_view name : names)
    for (const AddedToken& token : spec_.added_tokens)
      if (token.special && token.content == name) return token.id;
  return std::nullopt;
}

class ByteLevelBpe::Encoding {
 public:
  explicit Encoding(const ByteLevelBpe& tokenizer) : tokenizer_(tokenizer) {}

  std::vector<int32_t> run(std::string_view text, bool add_template) {
    const TokenizerSpec& spec = tokenizer_.spec_;
    if (add_template) add_template_tokens(spec.prefix);
    std::vector<TextPart> parts;
    tokenizer_.raw_tokens_->find(text, parts);
    for (const TextPart& part : parts) {
      if (part.token) {
        ids_.push_back(part.token->id);
      } else {
        encode_raw(part.text);
      }
    }
    if (add_template) add_template_tokens(spec.suffix);
    return std::move(ids_);
  }

 private:
  void add_template_tokens(const std::vector<TemplateToken>& tokens) {
    for (const TemplateToken& token : tokens) ids_.push_back(token.id);
  }

  void encode_raw(std::string_view text) {
    if (!tokenizer_.spec_.normalizers.empty()) {
      std::string normal(text);
      for (const NormalForm form : tokenizer_.spec_.normalizers) normal = normalize(normal, form);
      text = kept_.emplace_back(std::move(normal));
    }
    std::vector<TextPart> parts;
    tokenizer_.normalized_tokens_->find(text, parts);
    for (const TextPart& part : parts) {
      if (part.token) {
        ids_.push_back(part.token->id);
      } else {
        encode_plain(part.text);
      }
    }
  }

  void encode_plain(std::string_view text) {
    if (tokenizer_.spec_.add_prefix_space && text.front() != ' ') text = kept_.emplace_back(" " + std::string(text));
    // Without merges every byte is its own token, however the text is split.
    if (tokenizer_.merger_.empty() && !tokenizer_.spec_.ignore_merges) return append_bytes(text, ids_);
    for (size_t position = 0; position < text.size();) {
      const Stretch stretch = next_stretch(text, position);
      position += stretch.text.size();
      if (stretch.is_valid) {
        encode_words(stretch.text);
      } else {
        append_word(stretch.text);
      }
    }
  }

  void encode_words(std::string_view text) {
    words_.assign(1, text);
    for (const auto& splitter : tokenizer_.splitters_) {
      finer_.clear();
      for (const std::string_view word : words_) splitter->split(word, finer_);
      words_.swap(finer_);
    }
    for (const std::string_view word : words_) append_word(word);
  }

  void append_word(std::string_view word) {
    if (word.size() > kLongestCachedWord) {
      merge_word(word);
      ids_.insert(ids_.end(), merged_.begin(), merged_.end());
      return;
    }
    const auto [place, is_new] = cache_.try_emplace(word);
    if (is_new) {
      merge_word(word);
      place->second = {pool_.size(), merged_.size()};
      pool_.insert(pool_.end(), merged_.begin(), merged_.end());
    }
    const auto begin = pool_.begin() + static_cast<std::ptrdiff_t>(place->second.first);
    ids_.insert(ids_.end(), begin, begin + static_cast<std::ptrdiff_t>(place->second.second));
  }

  // The tokens of `word` in merged_.
  void merge_word(std::string_view word) {
    merged_.clear();
    if (tokenizer_.spec_.ignore_merges) {
      const auto whole = tokenizer_.whole_words_.find(std::string(word));
      if (whole != tokenizer_.whole_words_.end()) return merged_.push_back(whole->second);
    }
    append_bytes(word, merged_);
    tokenizer_.merger_.merge(merged_, scratch_);
  }

  void append_bytes(std::string_view text, std::vector<int32_t>& ids) const {
    for (const char c : text) {
      const int32_t id = tokenizer_.byte_ids_[static_cast<unsigned char>(c)];
      if (id < 0)
        fail(ErrorKind::unsupported, "byte 0x{:02x} of the text has no token in this vocabulary", static_cast<unsigned char>(c));
      ids.push_back(id);
    }
  }

  const ByteLevelBpe& tokenizer_;
  std::vector<int32_t> ids_, merged_, pool_;
  std::vector<std::string_view> words_, finer_;
  std::unordered_map<std::string_view, std::pair<size_t, size_t>> cache_;  // word to begin and count in pool_
  std::deque<std::string> kept_;                                           // texts made on the way, which words point into
  BpeMerger::Scratch scratch_;
};

std::vector<int32_t> ByteLevelBpe::encode(std::string_view text, bool add_template) const {
  return Encoding(*this).run(text, add_template);
}

std::string ByteLevelBpe::decode(std::span<const int32_t> ids, bool skip_special) const {
  std::string text;
  for (const int32_t id : ids) {
    const auto found = tokens_.find(id);
    if (found == tokens_.end()) fail(ErrorKind::usage, "token id {} is not in the vocabulary of {} ids", id, vocab_size_);
    if (!skip_special || !found->second.special) text += found->second.bytes;
  }
  return text;
}

std::optional<int32_t> ByteLevelBpe::token_to_id(std::string_view token) const {
  for (const AddedToken& added : spec_.added_tokens)
    if (added.content == token) return added.id;
  const auto found = spec_.vocab.find(std::string(token));
  if (found == spec_.vocab.end()) return std::nullopt;
  return found->second;
}

nlohmann::ordered_json ByteLevelBpe::to_json() const { return write_tokenizer_json(spec_); }

}  // namespace switchyard::io
