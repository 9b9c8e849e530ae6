// The text cleaning of BERT: Devlin et al., arXiv:1810.04805, in the form of Hugging Face tokenizers.
#include "io/tokenizer/char_class.h"
#include "io/tokenizer/map_characters.h"
#include "io/tokenizer/normalizer.h"

namespace switchyard::io {
namespace {

bool is_break(char32_t c) { return c == '\t' || c == '\n' || c == '\r'; }

void clean(std::string& text) {
  map_characters(text, [](char32_t c, std::string& out) {
    const CharClasses classes = char_classes(c);
    if (c == 0 || c == 0xFFFD || ((classes & kOther) != 0 && !is_break(c))) return;
    append_utf8(out, (classes & kSpace) != 0 ? U' ' : c);
  });
}

// The blocks of ideographs that BERT puts between spaces.
bool is_ideograph(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
         (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) || (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

void separate_ideographs(std::string& text) {
  map_characters(text, [](char32_t c, std::string& out) {
    if (is_ideograph(c)) out += ' ';
    append_utf8(out, c);
    if (is_ideograph(c)) out += ' ';
  });
}

void strip_accents(std::string& text) {
  text = normalize(text, NormalForm::nfd);
  filter_characters(text, [](char32_t c) { return (char_classes(c) & kNonspacingMark) == 0; });
}

}  // namespace

NormalizerStep make_bert_normalizer(const JsonAt& at) {
  const bool clean_text = at.get_bool("clean_text", true), ideographs = at.get_bool("handle_chinese_chars", true);
  const bool lowercase = at.get_bool("lowercase", true), accents = at.get_bool("strip_accents", lowercase);
  return [=](std::string& text) {
    if (clean_text) clean(text);
    if (ideographs) separate_ideographs(text);
    if (accents) strip_accents(text);
    if (lowercase) map_characters(text, append_lower);
  };
}

}  // namespace switchyard::io
