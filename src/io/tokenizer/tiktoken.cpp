#include "io/tokenizer/tiktoken.h"

#include "io/tokenizer/base64.h"
#include "io/tokenizer/byte_alphabet.h"
#include "io/tokenizer/byte_vocabulary.h"
#include "io/tokenizer/components.h"
#include "io/tokenizer/splitter.h"
#include "io/tokenizer/token_template.h"
#include "switchyard/error.h"

#include <charconv>

namespace switchyard::io {
namespace {

using Special = std::pair<std::string_view, int32_t>;

// Ids: https://github.com/openai/tiktoken, tiktoken_ext/openai_public.py; Llama 3 and Qwen: the tables of their releases.
constexpr Special kR50k[] = {{"<|endoftext|>", 50256}};
constexpr Special kCl100k[] = {
    {"<|endoftext|>", 100257}, {"<|fim_prefix|>", 100258}, {"<|fim_middle|>", 100259}, {"<|fim_suffix|>", 100260}, {"<|endofprompt|>", 100276}};
constexpr Special kO200k[] = {{"<|endoftext|>", 199999}, {"<|endofprompt|>", 200018}};
constexpr Special kO200kHarmony[] = {{"<|startoftext|>", 199998}, {"<|endoftext|>", 199999},  {"<|return|>", 200002}, {"<|constrain|>", 200003},
                                     {"<|channel|>", 200005},     {"<|start|>", 200006},      {"<|end|>", 200007},    {"<|message|>", 200008},
                                     {"<|call|>", 200012},        {"<|endofprompt|>", 200018}};
constexpr Special kLlama3[] = {{"<|begin_of_text|>", 128000}, {"<|end_of_text|>", 128001}, {"<|start_header_id|>", 128006}, {"<|end_header_id|>", 128007},
                               {"<|eom_id|>", 128008},        {"<|eot_id|>", 128009},      {"<|python_tag|>", 128010}};
constexpr Special kQwen[] = {{"<|endoftext|>", 151643}, {"<|im_start|>", 151644}, {"<|im_end|>", 151645}};

std::string_view pattern_of(std::string_view known) {
  for (const KnownExpression& expression : known_expressions())
    if (expression.name == known) return expression.pattern;
  return {};
}

std::span<const TiktokenEncoding> encodings() {
  static const TiktokenEncoding all[] = {
      {"gpt2", pattern_of("gpt2"), kR50k, ""},
      {"r50k_base", pattern_of("gpt2"), kR50k, ""},
      {"p50k_base", pattern_of("gpt2"), kR50k, ""},
      {"cl100k_base", pattern_of("llama3"), kCl100k, ""},
      {"o200k_base", pattern_of("o200k"), kO200k, ""},
      {"o200k_harmony", pattern_of("o200k"), kO200kHarmony, ""},
      {"llama3", pattern_of("llama3"), kLlama3, "<|begin_of_text|>"},
      {"qwen", pattern_of("qwen2"), kQwen, ""},
  };
  return all;
}

struct Line {
  std::string token;
  int32_t rank = 0;
};

// Empty for anything but "base64 number".
std::optional<Line> read_line(std::string_view line) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  const size_t blank = line.find(' ');
  if (blank == line.npos || blank == 0) return std::nullopt;
  auto token = from_base64(line.substr(0, blank));
  const std::string_view digits = line.substr(blank + 1);
  int32_t rank = -1;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), rank);
  if (!token || token->empty() || error != std::errc{} || end != digits.data() + digits.size() || rank < 0 || rank > kMaxTokenId) return std::nullopt;
  return Line{*std::move(token), rank};
}

}  // namespace

const TiktokenEncoding* find_tiktoken_encoding(std::string_view name) {
  for (const TiktokenEncoding& encoding : encodings())
    if (encoding.name == name) return &encoding;
  return nullptr;
}

std::string tiktoken_encoding_names() {
  std::string names;
  for (const TiktokenEncoding& encoding : encodings()) names.append(names.empty() ? "" : ", ").append(encoding.name);
  return names;
}

bool looks_like_tiktoken(std::string_view text) { return read_line(text.substr(0, text.find('\n'))).has_value(); }

TokenizerSpec read_tiktoken(std::string_view text, const TiktokenEncoding& encoding, const std::string& name) {
  BpeSpec model;
  model.ignore_merges = model.rank_by_id = true;
  int64_t number = 0;
  for (size_t begin = 0, end = 0; begin < text.size(); begin = end + 1) {
    end = std::min(text.find('\n', begin), text.size());
    ++number;
    const auto line = read_line(text.substr(begin, end - begin));
    if (!line) fail(ErrorKind::checkpoint, "{}:{}: expected the base64 of a token, a blank and its rank", name, number);
    if (!model.vocab.emplace(bytes_to_alphabet(line->token), line->rank).second) fail(ErrorKind::checkpoint, "{}:{}: the token is given twice", name, number);
  }
  if (model.vocab.empty()) fail(ErrorKind::checkpoint, "{}: no tokens", name);
  TokenizerSpec spec;
  TokenTemplate around;
  for (const auto& [content, id] : encoding.special) {
    spec.added_tokens.push_back({.id = id, .content = std::string(content), .special = true});
    if (content == encoding.begin) around.prefix.push_back({std::string(content), id});
  }
  spec.pre_tokenizer = {{"type", "Sequence"},
                        {"pretokenizers",
                         {{{"type", "Split"}, {"pattern", {{"Regex", encoding.pattern}}}, {"behavior", "Isolated"}, {"invert", false}},
                          byte_level_component(/*add_prefix_space=*/false, /*use_regex=*/false)}}};
  spec.post_processor = token_template_json(around);
  spec.decoder = byte_level_component(true, true);
  spec.model = std::move(model);
  return spec;
}

}  // namespace switchyard::io
