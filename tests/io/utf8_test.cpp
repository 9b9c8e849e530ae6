#include "io/tokenizer/utf8.h"

#include "io/tokenizer/byte_alphabet.h"

#include <gtest/gtest.h>

namespace switchyard::io {
namespace {

TEST(Utf8, EveryCodePointRoundTrips) {
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text = "x";
    append_utf8(text, c);
    const CodePoint forward = decode_utf8(text, 1), backward = decode_utf8_before(text, text.size());
    ASSERT_EQ(forward.value, c);
    ASSERT_EQ(forward.bytes, text.size() - 1);
    ASSERT_EQ(backward.value, c);
    for (size_t cut = 1; cut < forward.bytes; ++cut) ASSERT_EQ(decode_utf8(text.substr(0, 1 + cut), 1).bytes, 0U);
  }
}

TEST(Utf8, RefusesWhatTheStandardForbids) {
  for (const char* bad : {"\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xED\xBF\xBF",
                          "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\xC3(", "\xE2\x82("})
    EXPECT_EQ(decode_utf8(bad, 0).bytes, 0U);
}

TEST(Utf8, StretchesCoverTheText) {
  const std::string text = "aé\xFF\xC3z\xE2\x82";
  std::vector<std::pair<std::string_view, bool>> stretches;
  for (size_t position = 0; position < text.size();) {
    const Stretch stretch = next_stretch(text, position);
    stretches.emplace_back(stretch.text, stretch.is_valid);
    position += stretch.text.size();
  }
  EXPECT_EQ(stretches, (std::vector<std::pair<std::string_view, bool>>{
                           {"aé", true}, {"\xFF\xC3", false}, {"z", true}, {"\xE2\x82", false}}));
  EXPECT_TRUE(next_stretch(text, text.size()).text.empty());
}

TEST(Utf8, NormalFormsKeepInvalidBytesAndZeros) {
  EXPECT_EQ(normalize(std::string("e\u0301\xFF\0\xC3 e\u0301", 10), NormalForm::nfc), std::string("é\xFF\0\xC3 é", 8));
  EXPECT_EQ(normalize("é", NormalForm::nfd), "e\u0301");
  EXPECT_EQ(normalize("ﬁ²", NormalForm::nfkc), "fi2");
  EXPECT_EQ(normalize("ﬁé", NormalForm::nfkd), "fie\u0301");
}

TEST(ByteAlphabet, IsOnePrintableCharacterPerByte) {
  EXPECT_EQ(bytes_to_alphabet(" a\n"), "ĠaĊ");
  for (int byte = 0; byte < 256; ++byte) {
    const std::string bytes(1, static_cast<char>(byte));
    EXPECT_EQ(alphabet_to_bytes(bytes_to_alphabet(bytes)), bytes);
  }
  EXPECT_EQ(alphabet_to_bytes("a b"), std::nullopt);
  EXPECT_EQ(alphabet_to_bytes("｜"), std::nullopt);
  EXPECT_EQ(alphabet_to_bytes("\xFF"), std::nullopt);
  EXPECT_EQ(alphabet_to_bytes(""), "");
}

}  // namespace
}  // namespace switchyard::io
