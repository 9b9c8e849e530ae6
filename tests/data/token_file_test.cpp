#include "data/token_file.h"

#include "data_fixtures.h"
#include "expect_error.h"

#include <gtest/gtest.h>

#include <cstring>

namespace switchyard::data {
namespace {

using testing::expect_error;

TokenData small_data(int64_t vocab_size) {
  TokenData data{.fingerprint = 0x0123456789ABCDEF,
                 .vocab_size = vocab_size,
                 .train = {},
                 .validation = {},
                 .names = {"One", "domain", "Zw\xC3\xB6lf \"x\"\n"}};
  for (int32_t i = 0; i < 19; ++i) {
    data.train.tokens.push_back(static_cast<int32_t>((i * 7919) % vocab_size));
    data.train.scored.push_back(i % 3 == 1);
  }
  data.train.documents = {{0, 11, 4, 0, 1}, {7, 5, 5, 2, 1}, {18, 1, 0, 0, 0}};
  data.validation.tokens = {1, 2, static_cast<int32_t>(vocab_size - 1)};
  data.validation.scored = {false, true, true};
  data.validation.documents = {{0, 3, 3, 2, 2}};
  return data;
}

void expect_equal(const TokenStream& stream, const TokenSplit& split) {
  ASSERT_EQ(stream.size(), static_cast<int64_t>(split.tokens.size()));
  int64_t scored = 0, scored_bytes = 0, document = -1;
  for (int64_t i = 0; i < stream.size(); ++i) {
    EXPECT_EQ(stream.token(i), split.tokens[i]);
    EXPECT_EQ(stream.scored(i), split.scored[i]);
    scored += split.scored[i];
    if (document + 1 < static_cast<int64_t>(split.documents.size()) && split.documents[document + 1].first_token == i) ++document;
    EXPECT_EQ(stream.document_of(i), document);
    EXPECT_GT(stream.document_end(document), i);
  }
  for (const auto& d : split.documents) scored_bytes += d.scored_bytes;
  EXPECT_EQ(stream.scored_tokens(), scored);
  EXPECT_EQ(stream.scored_bytes(), scored_bytes);
  EXPECT_TRUE(std::equal(stream.documents().begin(), stream.documents().end(), split.documents.begin(), split.documents.end()));
}

TEST(TokenFile, GivesBackWhatWasWritten) {
  const TempFolder folder;
  // 65536 is the largest vocabulary of 16-bit ids.
  for (const int64_t vocab_size : {20, 65536, 65537, 1 << 20}) {
    const TokenData data = small_data(vocab_size);
    write_token_file(folder / "t.bin", data);
    TokenFile opened(folder / "t.bin");
    const TokenFile file = std::move(opened);
    EXPECT_EQ(file.fingerprint(), data.fingerprint);
    EXPECT_EQ(file.vocab_size(), vocab_size);
    EXPECT_EQ(file.names(), data.names);
    expect_equal(file.train(), data.train);
    expect_equal(file.validation(), data.validation);
    // Header 80; ids padded to 8; bits 8; documents of 40 bytes; names.
    const size_t id = vocab_size > 65536 ? 4 : 2;
    const size_t ids = (19 * id + 7) / 8 * 8 + (3 * id + 7) / 8 * 8;
    const size_t names = std::strlen("[\"One\",\"domain\",\"Zw\xC3\xB6lf \\\"x\\\"\\n\"]");
    EXPECT_EQ(std::filesystem::file_size(folder / "t.bin"), 80 + ids + 16 + 4 * 40 + names);
  }
}

TEST(TokenFile, MayHaveAnEmptySplit) {
  const TempFolder folder;
  TokenData data = small_data(20);
  data.validation = {};
  write_token_file(folder / "t.bin", data);
  const TokenFile file(folder / "t.bin");
  EXPECT_EQ(file.validation().size(), 0);
  EXPECT_EQ(file.validation().scored_tokens(), 0);
  EXPECT_EQ(file.train().size(), 19);
}

class DamagedTokenFile : public ::testing::Test {
 protected:
  DamagedTokenFile() {
    write_token_file(folder_ / "t.bin", small_data(20));
    good_ = read_text_file(folder_ / "t.bin");
  }
  template <class T> void refuse(size_t offset, T value, std::initializer_list<std::string_view> words) {
    std::string bytes = good_;
    std::memcpy(bytes.data() + offset, &value, sizeof value);
    refuse_bytes(bytes, words);
  }
  void refuse_bytes(const std::string& bytes, std::initializer_list<std::string_view> words) {
    folder_.write("t.bin", bytes);
    expect_error(ErrorKind::checkpoint, words, [&] { (void)TokenFile(folder_ / "t.bin"); });
    expect_error(ErrorKind::checkpoint, {"t.bin: "}, [&] { (void)TokenFile(folder_ / "t.bin"); });
  }

  TempFolder folder_;
  std::string good_;
};

TEST_F(DamagedTokenFile, HeaderFieldsAreRefusedByName) {
  refuse(0, 'X', {"not a token file", "SWTOKENS"});
  refuse(8, uint32_t{2}, {"version 2", "reads version 1"});
  refuse(12, uint32_t{4}, {"4 bytes per token", "expected 2", "vocab_size = 20"});
  refuse(24, uint64_t{0}, {"vocab_size = 0"});
  refuse(24, uint64_t{1} << 40, {"vocab_size = 1099511627776", "2^31"});
  refuse(32, uint64_t{190}, {"counts in its header need"});
  refuse(32, ~uint64_t{0}, {"18446744073709551615 training tokens", "only"});
  refuse(40, uint64_t{1} << 61, {"training documents"});
  refuse(48, ~uint64_t{0} / 2 + 2, {"validation tokens"});
  refuse(56, uint64_t{2}, {"counts in its header need"});
  refuse(64, ~uint64_t{7}, {"bytes of names"});
  refuse(72, uint64_t{5}, {"announces 5", "truncated or damaged"});
}

TEST_F(DamagedTokenFile, ContentIsRefusedByPlace) {
  // Training split: ids at 80 (40 bytes), bits at 120 (8), documents at 128 (3 x 40); validation: ids 248, bits 256, documents 264.
  refuse(80 + 2 * 4, uint16_t{20}, {"training split: token 4 has id 20", "0 to 19"});
  refuse(248, uint16_t{65535}, {"validation split: token 0 has id 65535"});
  refuse(120, uint8_t{0xFF}, {"training split: token 0 is marked as scored"});
  refuse(128, int64_t{1}, {"document 0 starts at token 1", "expected 0"});
  refuse(168, int64_t{0}, {"document 1 starts at token 0", "1 to 18"});
  refuse(168, int64_t{-5}, {"document 1 starts at token -5"});
  refuse(208, int64_t{19}, {"document 2 starts at token 19", "8 to 18"});
  refuse(128 + 8, int64_t{-1}, {"document 0 has -1 bytes"});
  refuse(168 + 8, INT64_MAX, {"document 1 has 9223372036854775807 bytes"});  // the sum would overflow
  refuse(128 + 16, int64_t{12}, {"document 0 has 11 bytes, 12 of them scored"});
  refuse(128 + 24, int64_t{3}, {"document 0 points at names 3 and 1", "there are 3"});
  refuse(264 + 32, int64_t{-1}, {"validation split: document 0 points at names 2 and -1"});
  refuse(304, '{', {"no JSON array of strings"});
}

TEST_F(DamagedTokenFile, EveryTruncationAndAnyTailIsRefused) {
  for (size_t size = 0; size < good_.size(); ++size) refuse_bytes(good_.substr(0, size), {"bytes"});
  refuse_bytes(good_ + '\0', {"bytes"});
}

// Property: no single damaged byte crashes the reader; what it accepts can be walked.
TEST_F(DamagedTokenFile, AnyFlippedByteIsRefusedOrHarmless) {
  int refused = 0;
  for (size_t at = 0; at < good_.size(); ++at)
    for (const int flip : {1 << at % 8, 0xFF}) {
      std::string bytes = good_;
      bytes[at] = static_cast<char>(bytes[at] ^ flip);
      folder_.write("t.bin", bytes);
      try {
        const TokenFile file(folder_ / "t.bin");
        for (const auto* stream : {&file.train(), &file.validation()})
          for (int64_t i = 0; i < stream->size(); ++i) {
            EXPECT_LT(stream->token(i), file.vocab_size());
            EXPECT_LT(stream->document_of(i), static_cast<int64_t>(stream->documents().size()));
          }
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::checkpoint);
        ++refused;
      }
    }
  EXPECT_GT(refused, 300);
}

TEST(TokenFile, FailedWriteLeavesTheOldFile) {
  const TempFolder folder;
  write_token_file(folder / "t.bin", small_data(20));
  expect_error(ErrorKind::io, {"t.bin"}, [&] { write_token_file(folder / "t.bin/below", small_data(30)); });
  EXPECT_EQ(TokenFile(folder / "t.bin").vocab_size(), 20);
  expect_error(ErrorKind::io, {"missing.bin"}, [&] { (void)TokenFile(folder / "missing.bin"); });
}

}  // namespace
}  // namespace switchyard::data
