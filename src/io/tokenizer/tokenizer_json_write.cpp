#include "io/tokenizer/base64.h"
#include "io/tokenizer/text_map.h"
#include "io/tokenizer/tokenizer_json.h"

#include <algorithm>
#include <tuple>

namespace switchyard::io {
namespace {

using Json = nlohmann::ordered_json;

Json added_token(const AddedToken& token) {
  return {{"id", token.id},           {"content", token.content},       {"single_word", token.single_word},
          {"lstrip", token.lstrip},   {"rstrip", token.rstrip},         {"normalized", token.normalized},
          {"special", token.special}};
}

// In the order of ids. Filled as the vector that an ordered object is: its own insertion searches every time, which for
// 10^5 tokens takes minutes.
Json vocabulary(const std::map<std::string, int32_t>& vocab) {
  std::vector<std::pair<int32_t, const std::string*>> tokens;
  for (const auto& [token, id] : vocab) tokens.emplace_back(id, &token);
  std::sort(tokens.begin(), tokens.end());
  Json out = Json::object();
  auto& members = out.get_ref<Json::object_t&>();
  for (const auto& [id, token] : tokens) members.emplace_back(*token, id);
  return out;
}

using Merges = std::vector<std::pair<std::string, std::string>>;

// The list that a reader needs who does not know ranks by id: all pairs, in the order of ids.
Merges all_pairs(const BpeSpec& spec) {
  TextMap ids;
  std::vector<std::tuple<int32_t, std::optional<int32_t>, std::string, std::string>> pairs;
  for (const auto& [token, id] : spec.vocab) ids.set(token, id);
  for (const auto& [token, id] : spec.vocab)
    for (size_t cut = 1; cut < token.size(); ++cut) {
      const auto left = ids.get(std::string_view(token).substr(0, cut));
      if (left && ids.get(std::string_view(token).substr(cut))) pairs.emplace_back(id, left, token.substr(0, cut), token.substr(cut));
    }
  std::sort(pairs.begin(), pairs.end());
  Merges merges;
  for (auto& [id, left_id, left, right] : pairs) merges.emplace_back(std::move(left), std::move(right));
  return merges;
}

// "a b", which all versions of the library read; pairs when a token holds a space.
Json merge_list(const Merges& list) {
  const bool has_space = std::any_of(list.begin(), list.end(), [](const auto& merge) {
    return merge.first.find(' ') != std::string::npos || merge.second.find(' ') != std::string::npos;
  });
  Json merges = Json::array();
  for (const auto& [left, right] : list) merges.push_back(has_space ? Json::array({left, right}) : Json(left + " " + right));
  return merges;
}

Json or_null(const std::string& text) { return text.empty() ? Json() : Json(text); }

Json model(const BpeSpec& spec) {
  Json out{{"type", "BPE"},
           {"dropout", nullptr},
           {"unk_token", spec.unk_token ? Json(*spec.unk_token) : Json()},
           {"continuing_subword_prefix", or_null(spec.continuing_subword_prefix)},
           {"end_of_word_suffix", or_null(spec.end_of_word_suffix)},
           {"fuse_unk", spec.fuse_unk},
           {"byte_fallback", spec.byte_fallback},
           {"ignore_merges", spec.ignore_merges}};
  if (spec.rank_by_id) out[kRankByIdKey] = true;
  out["vocab"] = vocabulary(spec.vocab);
  out["merges"] = merge_list(spec.rank_by_id ? all_pairs(spec) : spec.merges);
  return out;
}

Json model(const UnigramSpec& spec) {
  Json vocab = Json::array();
  for (const auto& [piece, score] : spec.pieces) vocab.push_back(Json::array({piece, score}));
  return {{"type", "Unigram"},
          {"unk_id", spec.unk_id ? Json(*spec.unk_id) : Json()},
          {"vocab", std::move(vocab)},
          {"byte_fallback", spec.byte_fallback}};
}

Json model(const WordPieceSpec& spec) {
  return {{"type", "WordPiece"},
          {"unk_token", spec.unk_token},
          {"continuing_subword_prefix", spec.continuing_subword_prefix},
          {"max_input_chars_per_word", spec.max_input_chars_per_word},
          {"vocab", vocabulary(spec.vocab)}};
}

}  // namespace

Json write_tokenizer_json(const TokenizerSpec& spec) {
  Json added = Json::array();
  for (const AddedToken& token : spec.added_tokens) added.push_back(added_token(token));
  Json written = std::visit([](const auto& value) { return model(value); }, spec.model);
  if (!spec.sentencepiece_model.empty()) written[kSentencePieceKey] = to_base64(spec.sentencepiece_model);
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", std::move(added)},
          {"normalizer", spec.normalizer},
          {"pre_tokenizer", spec.pre_tokenizer},
          {"post_processor", spec.post_processor},
          {"decoder", spec.decoder},
          {"model", std::move(written)}};
}

}  // namespace switchyard::io
