#include "io/gguf/gguf_tokenizer.h"

#include "io/gguf/pre_tokenizers.h"
#include "io/strict_json.h"
#include "switchyard/error.h"

#include <algorithm>
#include <map>
#include <unordered_map>

namespace switchyard::io {
namespace {

using nlohmann::ordered_json;

constexpr const char* kWhole = "tokenizer.huggingface.json";
constexpr const char* kMetaSpace = "\xE2\x96\x81";  // U+2581, SentencePiece's blank
enum TokenType : int64_t { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

const std::string* text_at(const GgufMetadata& metadata, std::string_view key) {
  const GgufValue* value = find(metadata, key);
  return value ? value->string() : nullptr;
}

struct Vocabulary {
  std::vector<std::string> tokens;
  std::vector<int64_t> types;   // of each token; normal when the file does not say
  std::vector<double> scores;   // empty when the file has none
};

const GgufValue::Array* list_at(const GgufMetadata& metadata, const char* key, size_t size, const std::string& file) {
  const GgufValue* value = find(metadata, key);
  if (!value) return nullptr;
  if (!value->array() || value->array()->size() != size)
    fail(ErrorKind::checkpoint, "{}: metadata '{}' is no list of {} values, one for each token", file, key, size);
  return value->array();
}

Vocabulary read_vocabulary(const GgufMetadata& metadata, const std::string& file) {
  Vocabulary out;
  const GgufValue* tokens = find(metadata, "tokenizer.ggml.tokens");
  if (!tokens || !tokens->array() || tokens->items != GgufKind::string)
    fail(ErrorKind::checkpoint, "{}: metadata 'tokenizer.ggml.tokens' is missing or no list of strings", file);
  for (const GgufValue& token : *tokens->array()) out.tokens.push_back(*token.string());
  out.types.assign(out.tokens.size(), normal);
  if (const auto* types = list_at(metadata, "tokenizer.ggml.token_type", out.tokens.size(), file))
    for (size_t i = 0; i < types->size(); ++i) {
      const ordered_json type = to_json((*types)[i]);
      if (!type.is_number_integer()) fail(ErrorKind::checkpoint, "{}: metadata 'tokenizer.ggml.token_type' holds {}", file, shown((*types)[i]));
      out.types[i] = type.get<int64_t>();
    }
  if (const auto* scores = list_at(metadata, "tokenizer.ggml.scores", out.tokens.size(), file))
    for (const GgufValue& score : *scores) {
      const ordered_json number = to_json(score);
      if (!number.is_number()) fail(ErrorKind::checkpoint, "{}: metadata 'tokenizer.ggml.scores' holds {}", file, shown(score));
      out.scores.push_back(number.get<double>());
    }
  return out;
}

// Filled as the vector that an ordered object is: its own insertion searches every time.
ordered_json vocab_object(const Vocabulary& v) {
  ordered_json vocab = ordered_json::object();
  auto& members = vocab.get_ref<ordered_json::object_t&>();
  for (size_t i = 0; i < v.tokens.size(); ++i) members.emplace_back(v.tokens[i], i);
  return vocab;
}

ordered_json added_tokens(const Vocabulary& v) {
  ordered_json out = ordered_json::array();
  for (size_t i = 0; i < v.tokens.size(); ++i)
    if (v.types[i] == control || v.types[i] == user_defined || v.types[i] == unknown)
      out.push_back({{"id", i}, {"content", v.tokens[i]}, {"single_word", false}, {"lstrip", false}, {"rstrip", false}, {"normalized", false},
                     {"special", v.types[i] != user_defined}});
  return out;
}

// BOS before and EOS behind the text, as the file asks; null when neither.
ordered_json post_processor(const GgufMetadata& metadata, const Vocabulary& v, bool bos_by_default, const std::string& file) {
  ordered_json single = ordered_json::array(), specials = ordered_json::object();
  const auto add = [&](const char* flag, const char* id_key, bool absent) {
    const GgufValue *wanted = find(metadata, flag), *id = find(metadata, id_key);
    const ordered_json number = id ? to_json(*id) : ordered_json();
    if (!(wanted ? to_json(*wanted) == true : absent) || !number.is_number_integer()) return;
    const auto index = number.get<uint64_t>();
    if (index >= v.tokens.size()) fail(ErrorKind::checkpoint, "{}: metadata '{}' = {}, but there are {} tokens", file, id_key, index, v.tokens.size());
    const std::string& token = v.tokens[index];
    single.push_back({{"SpecialToken", {{"id", token}, {"type_id", 0}}}});
    specials[token] = {{"id", token}, {"ids", {index}}, {"tokens", {token}}};
  };
  add("tokenizer.ggml.add_bos_token", "tokenizer.ggml.bos_token_id", bos_by_default);
  single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
  add("tokenizer.ggml.add_eos_token", "tokenizer.ggml.eos_token_id", false);
  if (single.size() == 1) return nullptr;
  ordered_json pair = single;
  pair.push_back({{"Sequence", {{"id", "B"}, {"type_id", 1}}}});
  return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", specials}};
}

struct BpeFlags {
  bool byte_fallback = false, ignore_merges = false;
};

ordered_json bpe_model(const Vocabulary& v, ordered_json merges, const BpeFlags& flags, ordered_json unknown_token) {
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", std::move(unknown_token)},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", flags.byte_fallback},
          {"byte_fallback", flags.byte_fallback},
          {"ignore_merges", flags.ignore_merges},
          {"vocab", vocab_object(v)},
          {"merges", std::move(merges)}};
}

ordered_json gpt2_tokenizer(const GgufMetadata& metadata, const std::string& file) {
  const std::string* pre = text_at(metadata, "tokenizer.ggml.pre");
  const std::string name = pre ? *pre : "gpt-2";
  const GgufPreTokenizer* known = find_pre_tokenizer(name);
  if (!known)
    fail(ErrorKind::unsupported, "{}: tokenizer.ggml.pre = '{}' splits words in a way that is not known here; known: {}", file, name, pre_tokenizer_names());
  const Vocabulary v = read_vocabulary(metadata, file);
  const GgufValue* merges = find(metadata, "tokenizer.ggml.merges");
  if (!merges || merges->items != GgufKind::string || !merges->array())
    fail(ErrorKind::checkpoint, "{}: metadata 'tokenizer.ggml.merges' is missing or no list of strings", file);
  return {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}, {"added_tokens", added_tokens(v)},
          {"normalizer", known->nfc ? ordered_json{{"type", "NFC"}} : ordered_json()}, {"pre_tokenizer", splitting_of(*known)}, {"post_processor", post_processor(metadata, v, known->add_bos, file)},
          {"decoder", {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}}},
          {"model", bpe_model(v, to_json(*merges), {.ignore_merges = known->ignore_merges}, nullptr)}};
}

// Every pair of tokens that makes a token, by falling score; those of one token by the ids of its parts.
ordered_json merges_by_score(const Vocabulary& v) {
  std::unordered_map<std::string_view, size_t> ids;
  for (size_t i = 0; i < v.tokens.size(); ++i) ids.emplace(v.tokens[i], i);
  std::vector<size_t> order;
  for (size_t i = 0; i < v.tokens.size(); ++i)
    if (v.types[i] == normal && v.tokens[i].size() <= 256) order.push_back(i);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return v.scores[a] > v.scores[b]; });
  ordered_json merges = ordered_json::array();
  for (const size_t whole : order) {
    std::vector<std::pair<size_t, size_t>> parts;
    const std::string_view token = v.tokens[whole];
    for (size_t cut = 1; cut < token.size(); ++cut) {
      const auto left = ids.find(token.substr(0, cut)), right = ids.find(token.substr(cut));
      if (left != ids.end() && right != ids.end()) parts.emplace_back(left->second, right->second);
    }
    std::sort(parts.begin(), parts.end());
    for (const auto& [left, right] : parts) merges.push_back(ordered_json::array({v.tokens[left], v.tokens[right]}));
  }
  return merges;
}

ordered_json llama_tokenizer(const GgufMetadata& metadata, const std::string& file) {
  const Vocabulary v = read_vocabulary(metadata, file);
  if (v.scores.empty()) fail(ErrorKind::checkpoint, "{}: metadata 'tokenizer.ggml.scores' is missing; model 'llama' needs it", file);
  const GgufValue* prefix = find(metadata, "tokenizer.ggml.add_space_prefix");
  ordered_json normalizers = ordered_json::array(), decoders = ordered_json::array();
  const bool add_space = !prefix || to_json(*prefix) != false;
  if (add_space) normalizers.push_back({{"type", "Prepend"}, {"prepend", kMetaSpace}});
  normalizers.push_back({{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kMetaSpace}});
  decoders.push_back({{"type", "Replace"}, {"pattern", {{"String", kMetaSpace}}}, {"content", " "}});
  decoders.push_back({{"type", "ByteFallback"}});
  decoders.push_back({{"type", "Fuse"}});
  if (add_space) decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  ordered_json unknown_token;
  for (size_t i = 0; i < v.tokens.size() && unknown_token.is_null(); ++i)
    if (v.types[i] == unknown) unknown_token = v.tokens[i];
  return {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}, {"added_tokens", added_tokens(v)},
          {"normalizer", {{"type", "Sequence"}, {"normalizers", normalizers}}}, {"pre_tokenizer", nullptr},
          {"post_processor", post_processor(metadata, v, true, file)}, {"decoder", {{"type", "Sequence"}, {"decoders", decoders}}},
          {"model", bpe_model(v, merges_by_score(v), {.byte_fallback = true}, unknown_token)}};
}

// ---- writing ----

// Tokens by id, added ones included; empty when ids have holes.
std::optional<Vocabulary> vocabulary_of(const ordered_json& tokenizer) {
  std::map<int64_t, std::string> by_id;
  std::map<int64_t, int64_t> types;
  for (const auto& [token, id] : tokenizer.at("model").at("vocab").items()) {
    by_id[id.get<int64_t>()] = token;
    const bool is_byte = token.size() == 6 && token.starts_with("<0x") && token.back() == '>';
    types[id.get<int64_t>()] = is_byte ? byte : normal;
  }
  for (const auto& token : tokenizer.value("added_tokens", ordered_json::array())) {
    const auto id = token.at("id").get<int64_t>();
    by_id[id] = token.at("content").get<std::string>();
    types[id] = token.value("special", false) ? (token.at("content") == "<unk>" ? unknown : control) : user_defined;
  }
  Vocabulary out;
  for (const auto& [id, token] : by_id) {
    if (id != static_cast<int64_t>(out.tokens.size())) return std::nullopt;
    out.tokens.push_back(token);
    out.types.push_back(types[id]);
  }
  return out;
}

std::pair<std::string, std::string> merge_pair(const ordered_json& merge) {
  if (merge.is_array()) return {merge.at(0).get<std::string>(), merge.at(1).get<std::string>()};
  const auto& text = merge.get_ref<const std::string&>();
  const size_t space = text.find(' ');
  return {text.substr(0, space), space == std::string::npos ? "" : text.substr(space + 1)};
}

// Scores that order merges as their list does: 0 for tokens that no merge makes.
GgufValue scores_of(const Vocabulary& v, const ordered_json& merges) {
  std::unordered_map<std::string, double> score;
  double next = 0;
  for (const auto& merge : merges) {
    const auto [left, right] = merge_pair(merge);
    if (score.emplace(left + right, next).second) next -= 1;
  }
  GgufValue out{GgufKind::array, GgufValue::Array{}, GgufKind::f32};
  auto& items = std::get<GgufValue::Array>(out.value);
  for (const std::string& token : v.tokens) items.push_back(gguf_f32(score.count(token) ? score.at(token) : 0.0));
  return out;
}

GgufValue types_of(const Vocabulary& v) {
  GgufValue out{GgufKind::array, GgufValue::Array{}, GgufKind::i32};
  for (const int64_t type : v.types) std::get<GgufValue::Array>(out.value).push_back(gguf_i32(static_cast<int32_t>(type)));
  return out;
}

// tokenizer.ggml.*; false when the tokenizer has no such form.
bool add_ggml_form(const ordered_json& tokenizer, GgufMetadata& metadata) {
  const ordered_json& model = tokenizer.at("model");
  if (model.value("type", "") != "BPE") return false;
  const auto vocabulary = vocabulary_of(tokenizer);
  const bool byte_fallback = model.value("byte_fallback", false);
  auto splitting = splitting_name(tokenizer.value("pre_tokenizer", ordered_json()));
  const std::string first_step = tokenizer.value("pre_tokenizer", ordered_json()).value("type", "");
  if (!splitting && first_step == "ByteLevel" && model.at("merges").empty()) splitting = "gpt-2";  // bytes alone: words do not matter
  if (!vocabulary || (!byte_fallback && !splitting)) return false;
  metadata.emplace_back("tokenizer.ggml.model", gguf_string(byte_fallback ? "llama" : "gpt2"));
  metadata.emplace_back("tokenizer.ggml.pre", gguf_string(byte_fallback ? "default" : *splitting));
  metadata.emplace_back("tokenizer.ggml.tokens", gguf_strings(vocabulary->tokens));
  metadata.emplace_back("tokenizer.ggml.token_type", types_of(*vocabulary));
  if (byte_fallback) {
    metadata.emplace_back("tokenizer.ggml.scores", scores_of(*vocabulary, model.at("merges")));
  } else {
    std::vector<std::string> merges;
    for (const auto& merge : model.at("merges")) {
      const auto [left, right] = merge_pair(merge);
      merges.push_back(left + " " + right);
    }
    metadata.emplace_back("tokenizer.ggml.merges", gguf_strings(std::move(merges)));
  }
  return true;
}

}  // namespace

std::optional<ordered_json> tokenizer_of(const GgufMetadata& metadata, const std::string& file) {
  if (const std::string* whole = text_at(metadata, kWhole)) {
    (void)parse_strict_json(*whole, file + ": " + kWhole);
    return ordered_json::parse(*whole);
  }
  const std::string* model = text_at(metadata, "tokenizer.ggml.model");
  if (!model) return std::nullopt;
  if (*model == "gpt2") return gpt2_tokenizer(metadata, file);
  if (*model == "llama") return llama_tokenizer(metadata, file);
  fail(ErrorKind::unsupported, "{}: tokenizer.ggml.model = '{}' is not read here; 'gpt2' and 'llama' are", file, *model);
}

ordered_json tokenizer_config_of(const GgufMetadata& metadata) {
  ordered_json out = ordered_json::object();
  if (const std::string* chat = text_at(metadata, "tokenizer.chat_template")) out["chat_template"] = *chat;
  const GgufValue* tokens = find(metadata, "tokenizer.ggml.tokens");
  for (const char* name : {"bos_token", "eos_token"}) {
    const GgufValue* id = find(metadata, fmt::format("tokenizer.ggml.{}_id", name));
    if (!id || !tokens || !tokens->array()) continue;
    const ordered_json index = to_json(*id);
    if (index.is_number_unsigned() && index.get<uint64_t>() < tokens->array()->size() && (*tokens->array())[index.get<uint64_t>()].string())
      out[name] = *(*tokens->array())[index.get<uint64_t>()].string();
  }
  return out;
}

// Does the template put this token in front of a text (or behind it)?
bool template_adds(const ordered_json& tokenizer, const ordered_json& token, bool in_front) {
  const ordered_json post = tokenizer.value("post_processor", ordered_json());
  std::vector<ordered_json> steps{post};
  if (post.is_object() && post.value("type", "") == "Sequence") steps = post.at("processors").get<std::vector<ordered_json>>();
  for (const ordered_json& step : steps) {
    if (!step.is_object() || step.value("type", "") != "TemplateProcessing" || step.at("single").empty()) continue;
    const ordered_json& end = in_front ? step.at("single").front() : step.at("single").back();
    if (!end.contains("SpecialToken")) return false;
    const auto special = step.at("special_tokens").find(end.at("SpecialToken").at("id").get<std::string>());
    return special != step.at("special_tokens").end() && special->at("ids") == ordered_json::array({token});
  }
  return false;
}

void add_tokenizer(const ordered_json* tokenizer, const ordered_json& config, const ordered_json& tokenizer_config, GgufMetadata& metadata,
                   std::vector<std::string>& notes) {
  if (tokenizer) {
    try {
      if (!add_ggml_form(*tokenizer, metadata))
        notes.push_back("the tokenizer has no tokenizer.ggml form; it is stored as tokenizer.huggingface.json alone, which few other programs read");
      for (const std::string name : {"bos", "eos"}) {
        const auto id = config.find(name + "_token_id");
        if (id == config.end() || !id->is_number_integer() || *id < 0) continue;
        metadata.emplace_back(fmt::format("tokenizer.ggml.{}_token_id", name), gguf_u32(id->get<int64_t>()));
        metadata.emplace_back(fmt::format("tokenizer.ggml.add_{}_token", name), gguf_bool(template_adds(*tokenizer, *id, name == "bos")));
      }
    } catch (const nlohmann::json::exception& error) {
      fail(ErrorKind::checkpoint, "tokenizer.json: {}", error.what());
    }
    metadata.emplace_back(kWhole, gguf_string(tokenizer->dump(-1, ' ', false, ordered_json::error_handler_t::replace)));
  }
  if (const auto chat = tokenizer_config.find("chat_template"); chat != tokenizer_config.end() && chat->is_string())
    metadata.emplace_back("tokenizer.chat_template", gguf_string(chat->get<std::string>()));
}

}  // namespace switchyard::io
