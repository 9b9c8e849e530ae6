#include "io/tokenizer/byte_alphabet.h"
#include "io/tokenizer/char_class.h"
#include "io/tokenizer/charsmap.h"
#include "io/tokenizer/components.h"
#include "io/tokenizer/map_characters.h"
#include "io/tokenizer/normalizer.h"

#include <utf8proc.h>

#include <memory>

namespace switchyard::io {
namespace {

template <NormalForm kForm>
NormalizerStep make_normal_form(const JsonAt&) {
  return [](std::string& text) { text = normalize(text, kForm); };
}

NormalizerStep make_lowercase(const JsonAt&) {
  return [](std::string& text) { map_characters(text, append_lower); };
}

NormalizerStep make_strip_accents(const JsonAt&) {
  return [](std::string& text) { filter_characters(text, [](char32_t c) { return (char_classes(c) & kMark) == 0; }); };
}

NormalizerStep make_strip(const JsonAt& at) {
  return [left = at.get_bool("strip_left", true), right = at.get_bool("strip_right", true)](std::string& text) {
    const auto is_space = [](CodePoint c) { return c.bytes > 0 && (char_classes(c.value) & kSpace) != 0; };
    size_t begin = 0, end = text.size();
    while (right && end > 0) {
      const CodePoint c = decode_utf8_before(text, end);
      if (!is_space(c)) break;
      end -= c.bytes;
    }
    text.resize(end);
    while (left && begin < end) {
      const CodePoint c = decode_utf8(text, begin);
      if (!is_space(c)) break;
      begin += c.bytes;
    }
    text.erase(0, begin);
  };
}

NormalizerStep make_replace(const JsonAt& at) {
  return [find = read_pattern(at.at("pattern")), content = at.at("content").as_string()](std::string& text) { text = replace_matches(find, text, content); };
}

NormalizerStep make_prepend(const JsonAt& at) {
  return [prefix = at.at("prepend").as_string()](std::string& text) {
    if (!text.empty()) text.insert(0, prefix);
  };
}

// The rules that sentencepiece calls nmt: controls go, breaks and blanks of all kinds become a space.
NormalizerStep make_nmt(const JsonAt&) {
  const auto is_control = [](char32_t c) { return (c >= 0x1 && c <= 0x8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F; };
  const auto is_blank = [](char32_t c) {
    return c == 0x9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 || (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
           c == 0xFEFF || c == 0xFFFD;
  };
  return [=](std::string& text) {
    map_characters(text, [&](char32_t c, std::string& out) {
      if (!is_control(c)) append_utf8(out, is_blank(c) ? U' ' : c);
    });
  };
}

NormalizerStep make_precompiled(const JsonAt& at) {
  const JsonAt blob = at.at("precompiled_charsmap");
  const auto map = std::make_shared<const CharsMap>(read_base64(blob), blob.where());
  return [map](std::string& text) { map_graphemes(*map, text); };
}

NormalizerStep make_byte_level(const JsonAt&) {
  return [](std::string& text) { text = bytes_to_alphabet(text); };
}

using Entry = ComponentEntry<NormalizerStep (*)(const JsonAt&)>;

constexpr Entry kEntries[] = {
    {"NFC", make_normal_form<NormalForm::nfc>},
    {"NFD", make_normal_form<NormalForm::nfd>},
    {"NFKC", make_normal_form<NormalForm::nfkc>},
    {"NFKD", make_normal_form<NormalForm::nfkd>},
    {"Lowercase", make_lowercase},
    {"StripAccents", make_strip_accents},
    {"Strip", make_strip},
    {"Replace", make_replace},
    {"Prepend", make_prepend},
    {"BertNormalizer", make_bert_normalizer},
    {"Nmt", make_nmt},
    {"Precompiled", make_precompiled},
    {"ByteLevel", make_byte_level},
};

}  // namespace

void append_lower(char32_t c, std::string& out) {
  constexpr char32_t kCapitalIWithDot = 0x130;  // the only one with two small characters
  if (c == kCapitalIWithDot) {
    out += "i\u0307";
  } else {
    append_utf8(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
  }
}

void run_normalizer(const std::vector<NormalizerStep>& steps, std::string& text) {
  const size_t before = text.size();
  for (const NormalizerStep& step : steps) {
    step(text);
    check_growth(before, text.size());
  }
}

std::vector<NormalizerStep> make_normalizer(const JsonAt& component) {
  std::vector<NormalizerStep> steps;
  for_each_step(component, "normalizers", [&](const JsonAt& step) { steps.push_back(find_component(step, std::span<const Entry>(kEntries))(step)); });
  return steps;
}

}  // namespace switchyard::io
