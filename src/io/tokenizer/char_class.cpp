#include "io/tokenizer/char_class.h"

#include <oniguruma.h>

#include <array>
#include <cstring>

namespace switchyard::io {
namespace {

class Tables {
 public:
  Tables() noexcept : letter_(property("L")), number_(property("N")) {
    for (char32_t c = 0; c < known_.size(); ++c) known_[c] = look_up(c);
  }

  [[nodiscard]] uint8_t classes(char32_t c) const noexcept { return c < known_.size() ? known_[c] : look_up(c); }

 private:
  static OnigCtype property(const char* name) noexcept {
    auto* begin = reinterpret_cast<UChar*>(const_cast<char*>(name));
    return static_cast<OnigCtype>(ONIG_ENCODING_UTF8->property_name_to_ctype(ONIG_ENCODING_UTF8, begin, begin + std::strlen(name)));
  }
  static bool is(char32_t c, OnigCtype type) noexcept { return ONIG_ENCODING_UTF8->is_code_ctype(c, type) != 0; }

  [[nodiscard]] uint8_t look_up(char32_t c) const noexcept {
    const bool joiner = c == 0x200C || c == 0x200D;
    return static_cast<uint8_t>((is(c, letter_) ? kLetter : 0) | (is(c, number_) ? kNumber : 0) |
                                (is(c, ONIGENC_CTYPE_SPACE) ? kSpace : 0) |
                                (is(c, ONIGENC_CTYPE_WORD) || joiner ? kWord : 0));
  }

  OnigCtype letter_, number_;
  std::array<uint8_t, 0x3400> known_{};  // the scripts written with spaces between words
};

}  // namespace

uint8_t char_classes(char32_t code_point) noexcept {
  static const Tables tables;
  return tables.classes(code_point);
}

}  // namespace switchyard::io
