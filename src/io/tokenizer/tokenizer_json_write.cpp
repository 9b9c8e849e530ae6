#include "io/tokenizer/tokenizer_json.h"

#include <algorithm>

namespace switchyard::io {
namespace {

using Json = nlohmann::ordered_json;

Json added_token(const AddedToken& token) {
  return {{"id", token.id},           {"content", token.content},       {"single_word", token.single_word},
          {"lstrip", token.lstrip},   {"rstrip", token.rstrip},         {"normalized", token.normalized},
          {"special", token.special}};
}

// One step as itself, several as a Sequence, none as null.
Json sequence(const char* list_key, Json steps) {
  if (steps.empty()) return nullptr;
  if (steps.size() == 1) return steps.front();
  return {{"type", "Sequence"}, {list_key, std::move(steps)}};
}

Json normalizer(const TokenizerSpec& spec) {
  Json steps = Json::array();
  for (const NormalForm form : spec.normalizers) {
    constexpr const char* kNames[] = {"NFC", "NFD", "NFKC", "NFKD"};  // in the order of NormalForm
    steps.push_back(Json{{"type", kNames[static_cast<size_t>(form)]}});
  }
  return sequence("normalizers", std::move(steps));
}

Json byte_level(bool add_prefix_space, bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", add_prefix_space}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

Json pre_tokenizer(const TokenizerSpec& spec) {
  Json steps = Json::array();
  for (const SplitRule& rule : spec.splits)
    steps.push_back(Json{{"type", "Split"},
                         {"pattern", Json{{rule.is_regex ? "Regex" : "String", rule.pattern}}},
                         {"behavior", rule.keep == SplitRule::Keep::all ? "Isolated" : "Removed"},
                         {"invert", rule.invert}});
  steps.push_back(byte_level(spec.add_prefix_space, spec.use_gpt2_split));
  return sequence("pretokenizers", std::move(steps));
}

Json post_processor(const TokenizerSpec& spec) {
  if (spec.prefix.empty() && spec.suffix.empty()) return nullptr;
  Json special = Json::object();
  const auto add = [&](Json& pieces, const std::vector<TemplateToken>& tokens, int type_id) {
    for (const TemplateToken& token : tokens) {
      pieces.push_back(Json{{"SpecialToken", Json{{"id", token.name}, {"type_id", type_id}}}});
      special[token.name] = Json{{"id", token.name}, {"ids", {token.id}}, {"tokens", {token.name}}};
    }
  };
  const auto add_text = [&](Json& pieces, const char* text, int type_id) {
    add(pieces, spec.prefix, type_id);
    pieces.push_back(Json{{"Sequence", Json{{"id", text}, {"type_id", type_id}}}});
    add(pieces, spec.suffix, type_id);
  };
  Json single = Json::array(), pair = Json::array();
  add_text(single, "A", 0);
  add_text(pair, "A", 0);
  add_text(pair, "B", 1);
  return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", special}};
}

// In the order of ids. Filled as the vector that an ordered object is: its own insertion searches every time, which for
// 10^5 tokens takes minutes.
Json vocabulary(const TokenizerSpec& spec) {
  std::vector<std::pair<int32_t, const std::string*>> tokens;
  for (const auto& [token, id] : spec.vocab) tokens.emplace_back(id, &token);
  std::sort(tokens.begin(), tokens.end());
  Json vocab = Json::object();
  auto& members = vocab.get_ref<Json::object_t&>();
  for (const auto& [id, token] : tokens) members.emplace_back(*token, id);
  return vocab;
}

// "a b", which all versions of the library read; pairs when a token holds a space.
Json merge_list(const TokenizerSpec& spec) {
  const bool has_space = std::any_of(spec.merges.begin(), spec.merges.end(), [](const auto& merge) {
    return merge.first.find(' ') != std::string::npos || merge.second.find(' ') != std::string::npos;
  });
  Json merges = Json::array();
  for (const auto& [left, right] : spec.merges)
    merges.push_back(has_space ? Json::array({left, right}) : Json(left + " " + right));
  return merges;
}

}  // namespace

Json write_tokenizer_json(const TokenizerSpec& spec) {
  Json added = Json::array();
  for (const AddedToken& token : spec.added_tokens) added.push_back(added_token(token));
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", std::move(added)},
          {"normalizer", normalizer(spec)},
          {"pre_tokenizer", pre_tokenizer(spec)},
          {"post_processor", post_processor(spec)},
          {"decoder", byte_level(true, true)},
          {"model", Json{{"type", "BPE"},
                         {"dropout", nullptr},
                         {"unk_token", nullptr},
                         {"continuing_subword_prefix", nullptr},
                         {"end_of_word_suffix", nullptr},
                         {"fuse_unk", false},
                         {"byte_fallback", false},
                         {"ignore_merges", spec.ignore_merges},
                         {"vocab", vocabulary(spec)},
                         {"merges", merge_list(spec)}}}};
}

}  // namespace switchyard::io
