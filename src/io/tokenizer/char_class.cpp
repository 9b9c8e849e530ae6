#include "io/tokenizer/char_class.h"

#include <oniguruma.h>

#include <algorithm>
#include <cstring>
#include <memory>

namespace switchyard::io {
namespace {

constexpr char32_t kNumCodePoints = 0x110000;

OnigCtype property(const char* name) noexcept {
  auto* begin = reinterpret_cast<UChar*>(const_cast<char*>(name));
  return static_cast<OnigCtype>(ONIG_ENCODING_UTF8->property_name_to_ctype(ONIG_ENCODING_UTF8, begin, begin + std::strlen(name)));
}

struct Tables {
  std::unique_ptr<CharClasses[]> all{new CharClasses[kNumCodePoints]()};

  Tables() {
    add(property("L"), kLetter);
    add(property("N"), kNumber);
    add(ONIGENC_CTYPE_SPACE, kSpace);
    add(ONIGENC_CTYPE_WORD, kWord);
    for (const char* name : {"Lu", "Lt"}) add(property(name), kUpper);
    add(property("Ll"), kLower);
    for (const char* name : {"Lm", "Lo"}) add(property(name), kCaseless);
    add(property("M"), kMark);
    add(property("Mn"), kNonspacingMark);
    add(property("P"), kPunctuation);
    add(property("S"), kSymbol);
    for (const char* name : {"Cc", "Cf", "Co"}) add(property(name), kOther);
    for (const char32_t joiner : {0x200C, 0x200D}) all[joiner] |= kWord;
  }

  // Oniguruma keeps a class as pairs (first, last) behind their number.
  void add(OnigCtype type, CharClasses classes) {
    OnigCodePoint bytes_until = 0;
    const OnigCodePoint* ranges = nullptr;
    if (ONIG_ENCODING_UTF8->get_ctype_code_range(type, &bytes_until, &ranges) != 0 || ranges == nullptr) return;
    for (OnigCodePoint i = 0; i < ranges[0]; ++i) {
      const OnigCodePoint first = ranges[1 + 2 * i], last = std::min<OnigCodePoint>(ranges[2 + 2 * i], kNumCodePoints - 1);
      for (OnigCodePoint c = first; c <= last; ++c) all[c] = static_cast<CharClasses>(all[c] | classes);
    }
  }
};

const Tables& tables() noexcept {
  static const Tables made;
  return made;
}

}  // namespace

CharClasses char_classes(char32_t code_point) noexcept { return code_point < kNumCodePoints ? tables().all[code_point] : 0; }

const CharTable& char_table() noexcept {
  static const CharTable table(tables().all.get());
  return table;
}

}  // namespace switchyard::io
