#include "io/tokenizer/pipeline_tokenizer.h"

#include "io/tokenizer/byte_alphabet.h"
#include "io/tokenizer/tokenizer_json.h"
#include "io/tokenizer/word_cache.h"
#include "switchyard/error.h"

#include <algorithm>
#include <set>

namespace switchyard::io {
namespace {

// Names that published vocabularies give to the end and the start of a document, the end of a document before the end
// of a turn.
constexpr std::string_view kEosNames[] = {"<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<｜end▁of▁sentence｜>", "<|eot_id|>", "<|im_end|>"};
constexpr std::string_view kBosNames[] = {"<|begin_of_text|>", "<s>", "<bos>", "<｜begin▁of▁sentence｜>", "<|startoftext|>"};

template <class Visit>
void for_each_token(const TokenizerSpec& spec, Visit&& visit) {
  if (const auto* bpe = std::get_if<BpeSpec>(&spec.model)) {
    for (const auto& [token, id] : bpe->vocab) visit(token, id);
  } else if (const auto* word_piece = std::get_if<WordPieceSpec>(&spec.model)) {
    for (const auto& [token, id] : word_piece->vocab) visit(token, id);
  } else {
    int32_t id = 0;
    for (const auto& piece : std::get<UnigramSpec>(spec.model).pieces) visit(piece.first, id++);
  }
}

}  // namespace

struct PipelineTokenizer::Workspace {
  PreTokenizer::Words words;
  SubwordModel::Scratch scratch;
  WordCache cache;
  std::vector<TextPart> parts, finer_parts;
  std::vector<std::string_view> word_parts;
};

PipelineTokenizer::PipelineTokenizer(TokenizerSpec spec, const std::string& name) : spec_(std::move(spec)) {
  add_components(name);
  add_vocabulary(name);
  add_added_tokens(name);
  check_template(name);
  choose_end_tokens();
}

PipelineTokenizer::~PipelineTokenizer() = default;

void PipelineTokenizer::add_components(const std::string& name) {
  const auto at = [&](const nlohmann::json& component, const char* key) { return JsonAt(component, name + ": " + key); };
  if (!spec_.normalizer.is_null()) normalizer_ = make_normalizer(at(spec_.normalizer, "normalizer"));
  if (!spec_.pre_tokenizer.is_null()) pre_tokenizer_ = PreTokenizer(at(spec_.pre_tokenizer, "pre_tokenizer"));
  if (!spec_.post_processor.is_null()) template_ = make_token_template(at(spec_.post_processor, "post_processor"));
  if (!spec_.decoder.is_null()) decoder_ = Decoder(at(spec_.decoder, "decoder"));
  if (const auto* bpe = std::get_if<BpeSpec>(&spec_.model)) {
    model_ = make_bpe_model(*bpe, pre_tokenizer_.is_byte_level(), name);
  } else {
    const auto* unigram = std::get_if<UnigramSpec>(&spec_.model);
    model_ = unigram ? make_unigram_model(*unigram, name) : make_word_piece_model(std::get<WordPieceSpec>(spec_.model), name);
    spells_bytes_ = pre_tokenizer_.is_byte_level();
  }
}

void PipelineTokenizer::add_vocabulary(const std::string& name) {
  for_each_token(spec_, [&](const std::string& token, int32_t id) {
    auto bytes = decoder_.is_byte_level() ? alphabet_to_bytes(token) : std::nullopt;
    if (!tokens_.emplace(id, Token{bytes ? *std::move(bytes) : token, false}).second)
      fail(ErrorKind::checkpoint, "{}: model.vocab: id {} is given twice, once to '{}'", name, id, token);
    ids_[token] = id;
    vocab_size_ = std::max(vocab_size_, int64_t{id} + 1);
  });
}

void PipelineTokenizer::add_added_tokens(const std::string& name) {
  std::vector<const AddedToken*> raw, normalized;
  std::vector<std::string> raw_contents, normalized_contents;
  std::set<std::string_view> seen;
  for (const AddedToken& token : spec_.added_tokens) {
    if (!seen.insert(token.content).second) fail(ErrorKind::checkpoint, "{}: added token '{}' is given twice", name, token.content);
    const auto in_vocab = ids_.find(token.content);
    if (in_vocab != ids_.end() && in_vocab->second != token.id)
      fail(ErrorKind::checkpoint, "{}: added token '{}' has id {}, model.vocab gives it {}", name, token.content, token.id, in_vocab->second);
    if (in_vocab == ids_.end() && tokens_.count(token.id) > 0)
      fail(ErrorKind::checkpoint, "{}: added token '{}' has id {}, which belongs to another token", name, token.content, token.id);
    // Departs from Hugging Face: their decoder reads an added token through the byte alphabet where it can, so that an
    // added token 'é' would not come back. Ours is the text that was found.
    tokens_[token.id] = {token.content, token.special};
    ids_[token.content] = token.id;
    vocab_size_ = std::max(vocab_size_, int64_t{token.id} + 1);
    if (token.normalized) {
      normalized.push_back(&token);
      std::string content = token.content;
      run_normalizer(normalizer_, content);
      normalized_contents.push_back(std::move(content));
    } else {
      raw.push_back(&token);
      raw_contents.push_back(token.content);
    }
  }
  raw_tokens_ = std::make_unique<AddedTokenFinder>(raw, std::move(raw_contents));
  normalized_tokens_ = std::make_unique<AddedTokenFinder>(normalized, std::move(normalized_contents));
}

void PipelineTokenizer::check_template(const std::string& name) const {
  for (const auto* tokens : {&template_.prefix, &template_.suffix})
    for (const TemplateToken& token : *tokens)
      if (tokens_.count(token.id) == 0)
        fail(ErrorKind::checkpoint, "{}: post_processor: token '{}' has id {}, which is not in the vocabulary", name, token.name, token.id);
}

// A template that ends with one special token ends documents with it; otherwise the usual names decide.
void PipelineTokenizer::choose_end_tokens() {
  const auto only_id = [](const std::vector<TemplateToken>& tokens) -> std::optional<int32_t> {
    if (tokens.size() != 1) return std::nullopt;
    return tokens.front().id;
  };
  eos_id_ = only_id(template_.suffix);
  bos_id_ = only_id(template_.prefix);
  if (!eos_id_) eos_id_ = first_special(kEosNames);
  if (!bos_id_) bos_id_ = first_special(kBosNames);
}

std::optional<int32_t> PipelineTokenizer::first_special(std::span<const std::string_view> names) const {
  for (const std::string_view name : names)
    for (const AddedToken& token : spec_.added_tokens)
      if (token.special && token.content == name) return token.id;
  return std::nullopt;
}

class PipelineTokenizer::Encoding {
 public:
  explicit Encoding(const PipelineTokenizer& tokenizer) : tokenizer_(tokenizer), work_(tokenizer.borrow_workspace()) {}
  ~Encoding() { tokenizer_.give_back(std::move(work_)); }
  Encoding(const Encoding&) = delete;
  Encoding& operator=(const Encoding&) = delete;

  std::vector<int32_t> run(std::string_view text, bool add_template) {
    if (add_template) add_template_tokens(tokenizer_.template_.prefix);
    work_->parts.clear();
    tokenizer_.raw_tokens_->find(text, work_->parts);
    for (const TextPart& part : work_->parts) {
      if (part.token) {
        ids_.push_back(part.token->id);
      } else {
        encode_raw(part.text, part.text.data() == text.data());
      }
    }
    if (add_template) add_template_tokens(tokenizer_.template_.suffix);
    return std::move(ids_);
  }

 private:
  void add_template_tokens(const std::vector<TemplateToken>& tokens) {
    for (const TemplateToken& token : tokens) ids_.push_back(token.id);
  }

  void encode_raw(std::string_view text, bool is_start) {
    std::string normal;
    if (!tokenizer_.normalizer_.empty()) {
      normal = text;
      run_normalizer(tokenizer_.normalizer_, normal);
      text = normal;
    }
    work_->finer_parts.clear();
    tokenizer_.normalized_tokens_->find(text, work_->finer_parts);
    for (const TextPart& part : work_->finer_parts) {
      if (part.token) {
        ids_.push_back(part.token->id);
      } else {
        encode_plain(part.text, is_start && part.text.data() == text.data());
      }
    }
  }

  void encode_plain(std::string_view text, bool is_start) {
    tokenizer_.pre_tokenizer_.split(text, is_start, work_->words);
    for (const std::string_view word : work_->words.words) {
      if (tokenizer_.spells_bytes_) {
        append_word(bytes_to_alphabet(word));
      } else {
        append_parts(word);
      }
    }
  }

  void append_parts(std::string_view word) {
    const Splitter* cuts = tokenizer_.model_->cuts();
    if (cuts == nullptr || word.size() <= WordCache::kMaxBytes) return append_word(word);
    work_->word_parts.clear();
    cuts->split(word, work_->word_parts);
    for (const std::string_view part : work_->word_parts) append_word(part);
  }

  void append_word(std::string_view word) {
    if (const auto known = work_->cache.find(word); !known.empty()) {
      ids_.insert(ids_.end(), known.begin(), known.end());
      return;
    }
    const size_t before = ids_.size();
    tokenizer_.model_->encode(word, ids_, work_->scratch);
    work_->cache.store(word, std::span(ids_).subspan(before));
  }

  const PipelineTokenizer& tokenizer_;
  std::unique_ptr<Workspace> work_;
  std::vector<int32_t> ids_;
};

std::unique_ptr<PipelineTokenizer::Workspace> PipelineTokenizer::borrow_workspace() const {
  const std::lock_guard lock(workspaces_mutex_);
  if (workspaces_.empty()) return std::make_unique<Workspace>();
  auto last = std::move(workspaces_.back());
  workspaces_.pop_back();
  return last;
}

void PipelineTokenizer::give_back(std::unique_ptr<Workspace> workspace) const {
  const std::lock_guard lock(workspaces_mutex_);
  workspaces_.push_back(std::move(workspace));
}

std::vector<int32_t> PipelineTokenizer::encode(std::string_view text, bool add_template) const { return Encoding(*this).run(text, add_template); }

std::string PipelineTokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  Decoder::Tokens tokens;
  for (const int32_t id : ids) {
    const auto found = tokens_.find(id);
    if (found == tokens_.end()) fail(ErrorKind::usage, "token id {} is not in the vocabulary of {} ids", id, vocab_size_);
    if (!skip_special || !found->second.special) tokens.push_back(found->second.text);
  }
  return decoder_.decode(std::move(tokens));
}

std::optional<int32_t> PipelineTokenizer::token_to_id(std::string_view token) const {
  const auto found = ids_.find(token);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

nlohmann::ordered_json PipelineTokenizer::to_json() const { return write_tokenizer_json(spec_); }

}  // namespace switchyard::io
