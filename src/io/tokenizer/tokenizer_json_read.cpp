#include "io/tokenizer/components.h"
#include "io/tokenizer/tokenizer_json.h"
#include "switchyard/error.h"

namespace switchyard::io {
namespace {

// For an option that changes the result and that only one value of is known.
void require_absent(const JsonAt& parent, const char* key, const char* reason) {
  if (!parent.has(key)) return;
  const JsonAt option = parent.at(key);
  const auto& value = option.value();
  const bool harmless = value == false || value == "" || (value.is_number() && value == 0);
  if (!harmless) fail(ErrorKind::unsupported, "{}: {} is not supported: {}", option.where(), show(value), reason);
}

AddedToken read_added_token(const JsonAt& at) {
  AddedToken token;
  token.id = read_token_id(at.at("id"));
  token.content = at.at("content").as_string();
  token.single_word = at.get_bool("single_word", false);
  token.lstrip = at.get_bool("lstrip", false);
  token.rstrip = at.get_bool("rstrip", false);
  token.normalized = at.get_bool("normalized", true);
  token.special = at.get_bool("special", false);
  return token;
}

std::map<std::string, int32_t> read_vocab(const JsonAt& at) {
  std::map<std::string, int32_t> vocab;
  for (const auto& [token, id] : at.as_object()) {
    // The path is put together only for a bad id: vocabularies have 10^5 of them.
    const bool is_plain = id.is_number_unsigned() && id.get<uint64_t>() <= static_cast<uint64_t>(kMaxTokenId);
    vocab.emplace_hint(vocab.end(), token, is_plain ? id.get<int32_t>() : read_token_id({id, fmt::format("{}.{}", at.where(), token)}));
  }
  return vocab;
}

std::vector<std::pair<std::string, std::string>> read_merges(const JsonAt& at) {
  std::vector<std::pair<std::string, std::string>> merges;
  merges.reserve(at.size());
  for (size_t i = 0; i < at.value().size(); ++i) {
    const auto& value = at.value()[i];
    if (value.is_array()) {
      const JsonAt pair = at.item(i);
      if (pair.size() != 2) pair.wrong("a pair of tokens");
      merges.emplace_back(pair.item(0).as_string(), pair.item(1).as_string());
    } else {
      const std::string& text = at.item(i).as_string();
      const size_t space = text.find(' ');
      if (space == text.npos || text.find(' ', space + 1) != text.npos) at.item(i).wrong("two tokens with a space between");
      merges.emplace_back(text.substr(0, space), text.substr(space + 1));
    }
  }
  return merges;
}

void read_bpe(const JsonAt& at, TokenizerSpec& spec) {
  require_absent(at, "dropout", "it makes tokens depend on chance");
  BpeSpec model;
  if (at.has("unk_token")) model.unk_token = at.at("unk_token").as_string();
  model.continuing_subword_prefix = at.get_string("continuing_subword_prefix", "");
  model.end_of_word_suffix = at.get_string("end_of_word_suffix", "");
  model.fuse_unk = at.get_bool("fuse_unk", false);
  model.byte_fallback = at.get_bool("byte_fallback", false);
  model.ignore_merges = at.get_bool("ignore_merges", false);
  model.rank_by_id = at.get_bool(kRankByIdKey, false);
  model.vocab = read_vocab(at.at("vocab"));
  if (!model.rank_by_id) model.merges = read_merges(at.at("merges"));
  spec.model = std::move(model);
}

void read_unigram(const JsonAt& at, TokenizerSpec& spec) {
  UnigramSpec model;
  const JsonAt vocab = at.at("vocab");
  for (size_t i = 0; i < vocab.size(); ++i) {
    const JsonAt piece = vocab.item(i);
    if (piece.size() != 2 || !piece.item(1).value().is_number()) piece.wrong("a piece and its score");
    model.pieces.emplace_back(piece.item(0).as_string(), piece.item(1).value().get<double>());
  }
  if (at.has("unk_id")) model.unk_id = read_token_id(at.at("unk_id"));
  model.byte_fallback = at.get_bool("byte_fallback", false);
  spec.model = std::move(model);
}

void read_word_piece(const JsonAt& at, TokenizerSpec& spec) {
  WordPieceSpec model;
  model.vocab = read_vocab(at.at("vocab"));
  model.unk_token = at.get_string("unk_token", model.unk_token);
  model.continuing_subword_prefix = at.get_string("continuing_subword_prefix", model.continuing_subword_prefix);
  if (at.has("max_input_chars_per_word")) model.max_input_chars_per_word = at.at("max_input_chars_per_word").as_integer();
  spec.model = std::move(model);
}

using Entry = ComponentEntry<void (*)(const JsonAt&, TokenizerSpec&)>;

constexpr Entry kModels[] = {{"BPE", read_bpe}, {"Unigram", read_unigram}, {"WordPiece", read_word_piece}};

void read_model(const JsonAt& at, TokenizerSpec& spec) {
  const std::string type = at.get_string("type", "BPE");
  for (const Entry& entry : kModels)
    if (entry.type == type) {
      entry.make(at, spec);
      if (at.has(kSentencePieceKey)) spec.sentencepiece_model = read_base64(at.at(kSentencePieceKey));
      return;
    }
  refuse_component(at, "BPE, Unigram, WordPiece");
}

}  // namespace

TokenizerSpec read_tokenizer_json(std::string_view text, const std::string& name) {
  const nlohmann::json document = parse_strict_json(text, name);
  const JsonAt root(document, name);
  TokenizerSpec spec;
  read_model(root.at("model"), spec);
  if (root.has("added_tokens")) {
    const JsonAt tokens = root.at("added_tokens");
    for (size_t i = 0; i < tokens.size(); ++i) spec.added_tokens.push_back(read_added_token(tokens.item(i)));
  }
  const auto component = [&](const char* key) { return root.has(key) ? root.at(key).value() : nlohmann::json(); };
  spec.normalizer = component("normalizer");
  spec.pre_tokenizer = component("pre_tokenizer");
  spec.post_processor = component("post_processor");
  spec.decoder = component("decoder");
  return spec;
}

}  // namespace switchyard::io
