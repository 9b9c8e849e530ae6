#include "io/tokenizer/token_template.h"

#include "io/tokenizer/components.h"

namespace switchyard::io {
namespace {

TokenTemplate make_byte_level(const JsonAt&) { return {}; }  // corrects offsets, which we do not report

void add_tokens(const JsonAt& processor, const JsonAt& piece, std::vector<TemplateToken>& tokens) {
  const std::string& name = piece.at("id").as_string();
  const JsonAt ids = processor.at("special_tokens").at(name).at("ids");
  for (size_t i = 0; i < ids.size(); ++i) tokens.push_back({name, read_token_id(ids.item(i))});
}

TokenTemplate make_template(const JsonAt& at) {
  TokenTemplate out;
  const JsonAt single = at.at("single");
  bool seen_text = false;
  for (size_t i = 0; i < single.size(); ++i) {
    const JsonAt piece = single.item(i);
    if (piece.has("SpecialToken")) {
      add_tokens(at, piece.at("SpecialToken"), seen_text ? out.suffix : out.prefix);
    } else if (seen_text || piece.at("Sequence").at("id").as_string() != "A") {
      piece.wrong("the sequence 'A', once");
    } else {
      seen_text = true;
    }
  }
  if (!seen_text) single.wrong("the sequence 'A', once");
  return out;
}

// BertProcessing and RobertaProcessing: ["[CLS]", 101] in front, ["[SEP]", 102] behind.
TokenTemplate make_bert(const JsonAt& at) {
  const auto token = [&](const char* key) {
    const JsonAt pair = at.at(key);
    if (pair.size() != 2) pair.wrong("a token and its id");
    return TemplateToken{pair.item(0).as_string(), read_token_id(pair.item(1))};
  };
  return {{token("cls")}, {token("sep")}};
}

using Entry = ComponentEntry<TokenTemplate (*)(const JsonAt&)>;

constexpr Entry kEntries[] = {
    {"ByteLevel", make_byte_level}, {"TemplateProcessing", make_template}, {"BertProcessing", make_bert}, {"RobertaProcessing", make_bert}};

}  // namespace

TokenTemplate make_token_template(const JsonAt& component) {
  TokenTemplate all;
  for_each_step(component, "processors", [&](const JsonAt& step) {  // a later step surrounds what the earlier ones gave
    TokenTemplate next = find_component(step, std::span<const Entry>(kEntries))(step);
    all.prefix.insert(all.prefix.begin(), next.prefix.begin(), next.prefix.end());
    all.suffix.insert(all.suffix.end(), next.suffix.begin(), next.suffix.end());
  });
  return all;
}

nlohmann::json token_template_json(const TokenTemplate& tokens) {
  using Json = nlohmann::json;
  if (tokens.prefix.empty() && tokens.suffix.empty()) return nullptr;
  Json special = Json::object(), single = Json::array(), pair = Json::array();
  const auto add = [&](Json& pieces, const std::vector<TemplateToken>& list, int type_id) {
    for (const TemplateToken& token : list) {
      pieces.push_back(Json{{"SpecialToken", Json{{"id", token.name}, {"type_id", type_id}}}});
      special[token.name] = Json{{"id", token.name}, {"ids", {token.id}}, {"tokens", {token.name}}};
    }
  };
  const auto add_text = [&](Json& pieces, const char* text, int type_id) {
    add(pieces, tokens.prefix, type_id);
    pieces.push_back(Json{{"Sequence", Json{{"id", text}, {"type_id", type_id}}}});
    add(pieces, tokens.suffix, type_id);
  };
  add_text(single, "A", 0);
  add_text(pair, "A", 0);
  add_text(pair, "B", 1);
  return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", special}};
}

}  // namespace switchyard::io
