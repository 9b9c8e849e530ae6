#include "io/tokenizer/decoder.h"

#include "io/tokenizer/byte_alphabet.h"
#include "io/tokenizer/byte_tokens.h"
#include "io/tokenizer/components.h"
#include "io/tokenizer/utf8.h"

#include <algorithm>
#include <limits>

namespace switchyard::io {
namespace {

using Tokens = Decoder::Tokens;
using Step = Decoder::Step;

void replace_all(std::string& text, std::string_view what, std::string_view by) { text = replace_matches(find_literal(std::string(what)), text, by); }

void fuse(Tokens& tokens) {
  std::string all;
  for (const std::string& token : tokens) all += token;
  tokens.assign(1, std::move(all));
}

Step make_byte_level(const JsonAt&) {
  return [](Tokens& tokens) {
    for (std::string& token : tokens)
      if (auto bytes = alphabet_to_bytes(token)) token = *std::move(bytes);
    fuse(tokens);
  };
}

// Meta spaces become spaces; those of the first token stand for the space that encoding put in front.
Step make_metaspace(const JsonAt& at) {
  const bool never = at.has("prepend_scheme") ? at.at("prepend_scheme").as_string() == "never" : !at.get_bool("add_prefix_space", true);
  return [mark = at.get_string("replacement", "\u2581"), never](Tokens& tokens) {
    for (size_t i = 0; i < tokens.size(); ++i) replace_all(tokens[i], mark, i == 0 && !never ? "" : " ");
  };
}

// English spacing around marks and contractions, as BERT's decoder has it.
void clean_up(std::string& text) {
  constexpr std::pair<std::string_view, std::string_view> kRules[] = {{" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
                                                                      {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
                                                                      {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [spaced, plain] : kRules) replace_all(text, spaced, plain);
}

Step make_word_piece(const JsonAt& at) {
  return [prefix = at.get_string("prefix", "##"), cleanup = at.get_bool("cleanup", true)](Tokens& tokens) {
    for (size_t i = 0; i < tokens.size(); ++i) {
      std::string& token = tokens[i];
      if (i > 0 && token.compare(0, prefix.size(), prefix) == 0) {
        token.erase(0, prefix.size());
      } else if (i > 0) {
        token.insert(token.begin(), ' ');
      }
      if (cleanup) clean_up(token);
    }
  };
}

Step make_byte_fallback(const JsonAt&) {
  return [](Tokens& tokens) {
    for (std::string& token : tokens)
      if (const auto byte = byte_of_token(token)) token.assign(1, *byte);
  };
}

Step make_fuse(const JsonAt&) { return fuse; }

Step make_replace(const JsonAt& at) {
  return [find = read_pattern(at.at("pattern")), content = at.at("content").as_string()](Tokens& tokens) {
    for (std::string& token : tokens) token = replace_matches(find, token, content);
  };
}

// At most `start` times and `stop` times the character `content` at the ends of a token.
Step make_strip(const JsonAt& at) {
  const auto count = [&](const char* key) {
    const int64_t value = at.at(key).as_integer();
    if (value < 0) at.at(key).wrong("at least 0");
    return value;
  };
  const std::string content = at.at("content").as_string();
  if (content.empty() || decode_utf8(content, 0).bytes != content.size()) at.at("content").wrong("a character");
  return [content, start = count("start"), stop = count("stop")](Tokens& tokens) {
    for (std::string& token : tokens) {
      size_t begin = 0, end = token.size();
      for (int64_t i = 0; i < start && token.compare(begin, content.size(), content) == 0; ++i) begin += content.size();
      for (int64_t i = 0; i < stop && end - begin >= content.size() && token.compare(end - content.size(), content.size(), content) == 0; ++i)
        end -= content.size();
      token = token.substr(begin, end - begin);
    }
  };
}

Step make_bpe(const JsonAt& at) {
  return [suffix = at.get_string("suffix", "</w>")](Tokens& tokens) {
    for (size_t i = 0; i < tokens.size(); ++i) replace_all(tokens[i], suffix, i + 1 == tokens.size() ? "" : " ");
  };
}

using Entry = ComponentEntry<Step (*)(const JsonAt&)>;

constexpr Entry kEntries[] = {
    {"ByteLevel", make_byte_level}, {"Metaspace", make_metaspace}, {"WordPiece", make_word_piece}, {"ByteFallback", make_byte_fallback}, {"Fuse", make_fuse},
    {"Replace", make_replace},      {"Strip", make_strip},         {"BPEDecoder", make_bpe},
};

}  // namespace

Decoder::Decoder(const JsonAt& component) {
  bool is_first = true;
  for_each_step(component, "decoders", [&](const JsonAt& step) {
    Step made = find_component(step, std::span<const Entry>(kEntries))(step);
    is_byte_level_ |= is_first && step.at("type").as_string() == "ByteLevel";
    steps_.push_back(is_byte_level_ && is_first ? Step(fuse) : std::move(made));
    is_first = false;
  });
}

std::string Decoder::decode(Tokens tokens) const {
  const auto size = [&] {
    size_t bytes = 0;
    for (const std::string& token : tokens) bytes += token.size();
    return bytes;
  };
  const size_t before = size();
  for (const Step& step : steps_) {
    step(tokens);
    check_growth(before, size());
  }
  std::string text;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0) text += separator_;
    text += tokens[i];
  }
  return text;
}

}  // namespace switchyard::io
