#include "io/strict_json.h"
#include "io/tokenizer/tokenizer_json.h"
#include "switchyard/error.h"

#include <limits>

namespace switchyard::io {
namespace {

constexpr int64_t kMaxId = std::numeric_limits<int32_t>::max() - 1;

[[noreturn]] void unsupported(const JsonAt& component, std::string_view known) {
  const std::string found = component.value().is_object() && component.has("type")
                                ? "'" + component.at("type").as_string() + "'"
                                : show(component.value());
  fail(ErrorKind::unsupported, "{}: {} is not supported; known: {}", component.where(), found, known);
}

// For an option that changes the result and that only one value of is known.
void require_absent(const JsonAt& parent, const char* key) {
  if (!parent.has(key)) return;
  const JsonAt option = parent.at(key);
  const auto& value = option.value();
  const bool harmless = value == false || value == "" || (value.is_number() && value == 0);
  if (!harmless) fail(ErrorKind::unsupported, "{}: {} is not supported; expected null", option.where(), show(value));
}

int32_t read_id(const JsonAt& number) {
  const int64_t id = number.as_integer();
  if (id < 0 || id > kMaxId) number.wrong("a token id of at least 0 and below 2^31 - 1");
  return static_cast<int32_t>(id);
}

// Calls `visit` for every step: the items of a Sequence, or the component itself.
template <class Visit>
void for_each_step(const JsonAt& component, const char* list_key, Visit visit) {
  if (component.at("type").as_string() != "Sequence") return visit(component);
  const JsonAt steps = component.at(list_key);
  for (size_t i = 0; i < steps.size(); ++i) for_each_step(steps.item(i), list_key, visit);
}

AddedToken read_added_token(const JsonAt& at) {
  AddedToken token;
  token.id = read_id(at.at("id"));
  token.content = at.at("content").as_string();
  token.single_word = at.get_bool("single_word", false);
  token.lstrip = at.get_bool("lstrip", false);
  token.rstrip = at.get_bool("rstrip", false);
  token.normalized = at.get_bool("normalized", true);
  token.special = at.get_bool("special", false);
  return token;
}

void read_normalizer(const JsonAt& at, TokenizerSpec& spec) {
  for_each_step(at, "normalizers", [&](const JsonAt& step) {
    const std::string& type = step.at("type").as_string();
    if (type == "NFC") {
      spec.normalizers.push_back(NormalForm::nfc);
    } else if (type == "NFD") {
      spec.normalizers.push_back(NormalForm::nfd);
    } else if (type == "NFKC") {
      spec.normalizers.push_back(NormalForm::nfkc);
    } else if (type == "NFKD") {
      spec.normalizers.push_back(NormalForm::nfkd);
    } else {
      unsupported(step, "NFC, NFD, NFKC, NFKD, Sequence");
    }
  });
}

SplitRule read_split(const JsonAt& at) {
  SplitRule rule;
  const JsonAt pattern = at.at("pattern");
  rule.is_regex = pattern.has("Regex");
  rule.pattern = pattern.at(rule.is_regex ? "Regex" : "String").as_string();
  const JsonAt behavior = at.at("behavior");
  if (behavior.as_string() == "Removed") {
    rule.keep = SplitRule::Keep::gaps;
  } else if (behavior.as_string() != "Isolated") {
    unsupported(behavior, "Isolated, Removed");
  }
  rule.invert = at.get_bool("invert", false);
  return rule;
}

void read_pre_tokenizer(const JsonAt& at, TokenizerSpec& spec) {
  constexpr const char* kKnown = "ByteLevel as the last step, before it Split and Digits; Sequence";
  bool is_byte_level = false;
  for_each_step(at, "pretokenizers", [&](const JsonAt& step) {
    const std::string& type = step.at("type").as_string();
    if (is_byte_level) unsupported(step, kKnown);  // after the byte-level step the text is no text any more
    if (type == "ByteLevel") {
      is_byte_level = true;
      spec.add_prefix_space = step.get_bool("add_prefix_space", true);
      spec.use_gpt2_split = step.get_bool("use_regex", true);
    } else if (type == "Split") {
      spec.splits.push_back(read_split(step));
    } else if (type == "Digits") {
      spec.splits.push_back({.pattern = step.get_bool("individual_digits", false) ? R"(\p{N})" : R"(\p{N}+)"});
    } else {
      unsupported(step, kKnown);
    }
  });
  if (!is_byte_level) unsupported(at, kKnown);
}

TemplateToken read_template_token(const JsonAt& processor, const JsonAt& piece) {
  const std::string& name = piece.at("id").as_string();
  const JsonAt ids = processor.at("special_tokens").at(name).at("ids");
  if (ids.size() != 1)
    fail(ErrorKind::unsupported, "{}: {} is not supported; expected one id", ids.where(), show(ids.value()));
  return {name, read_id(ids.item(0))};
}

void read_template(const JsonAt& at, TokenizerSpec& spec) {
  const JsonAt single = at.at("single");
  bool seen_text = false;
  for (size_t i = 0; i < single.size(); ++i) {
    const JsonAt piece = single.item(i);
    if (piece.has("SpecialToken")) {
      (seen_text ? spec.suffix : spec.prefix).push_back(read_template_token(at, piece.at("SpecialToken")));
    } else if (seen_text || piece.at("Sequence").at("id").as_string() != "A") {
      piece.wrong("the sequence 'A', once");
    } else {
      seen_text = true;
    }
  }
  if (!seen_text) single.wrong("the sequence 'A', once");
}

void read_post_processor(const JsonAt& at, TokenizerSpec& spec) {
  bool has_template = false;
  for_each_step(at, "processors", [&](const JsonAt& step) {
    const std::string& type = step.at("type").as_string();
    if (type == "ByteLevel") return;  // corrects offsets, which we do not report
    if (type != "TemplateProcessing" || has_template) unsupported(step, "ByteLevel, one TemplateProcessing, Sequence");
    has_template = true;
    read_template(step, spec);
  });
}

void read_merges(const JsonAt& at, TokenizerSpec& spec) {
  spec.merges.reserve(at.size());
  for (size_t i = 0; i < at.value().size(); ++i) {
    const auto& value = at.value()[i];
    if (value.is_array()) {
      const JsonAt pair = at.item(i);
      if (pair.size() != 2) pair.wrong("a pair of tokens");
      spec.merges.emplace_back(pair.item(0).as_string(), pair.item(1).as_string());
    } else {
      const std::string& text = at.item(i).as_string();
      const size_t space = text.find(' ');
      if (space == text.npos || text.find(' ', space + 1) != text.npos) at.item(i).wrong("two tokens with a space between");
      spec.merges.emplace_back(text.substr(0, space), text.substr(space + 1));
    }
  }
}

void read_model(const JsonAt& at, TokenizerSpec& spec) {
  if (at.get_string("type", "BPE") != "BPE") unsupported(at, "BPE");
  for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"}) require_absent(at, key);
  spec.ignore_merges = at.get_bool("ignore_merges", false);
  const JsonAt vocab = at.at("vocab");
  for (const auto& [token, id] : vocab.as_object()) {
    // The path is put together only for a bad id: vocabularies have 10^5 of them.
    const bool is_plain = id.is_number_unsigned() && id.get<uint64_t>() <= static_cast<uint64_t>(kMaxId);
    spec.vocab.emplace_hint(spec.vocab.end(), token,
                            is_plain ? id.get<int32_t>() : read_id({id, fmt::format("{}.{}", vocab.where(), token)}));
  }
  read_merges(at.at("merges"), spec);
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
  if (root.has("normalizer")) read_normalizer(root.at("normalizer"), spec);
  if (!root.has("pre_tokenizer"))
    fail(ErrorKind::unsupported, "{}: no pre_tokenizer: only byte-level vocabularies are supported", name);
  read_pre_tokenizer(root.at("pre_tokenizer"), spec);
  if (root.has("post_processor")) read_post_processor(root.at("post_processor"), spec);
  if (!root.has("decoder")) fail(ErrorKind::unsupported, "{}: no decoder: only ByteLevel is supported", name);
  const JsonAt decoder = root.at("decoder");
  if (decoder.at("type").as_string() != "ByteLevel") unsupported(decoder, "ByteLevel");
  return spec;
}

}  // namespace switchyard::io
