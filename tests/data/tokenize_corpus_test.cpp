#include "data/tokenize_corpus.h"

#include "base/files.h"
#include "data/corpus.h"
#include "data_fixtures.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace switchyard::data {
namespace {

constexpr SplitOptions kAllTrain{.validation_fraction = 0};

// The stream as text: E and B for the special tokens, a scored token in capitals (small letters are the input).
std::string shown(const TokenSplit& split) {
  std::string out;
  for (size_t i = 0; i < split.tokens.size(); ++i) {
    const int32_t id = split.tokens[i];
    const std::string symbol = id == 256 ? "e" : id == 257 ? "b" : std::string(1, static_cast<char>(id));
    out += split.scored[i] ? static_cast<char>(std::toupper(symbol[0])) : symbol[0];
  }
  return out;
}

std::vector<int64_t> starts(const TokenSplit& split) {
  std::vector<int64_t> out;
  for (const auto& d : split.documents) out.push_back(d.first_token);
  return out;
}

TEST(TokenizeCorpus, EndTokenEndsOneDocumentAndStartsTheNext) {
  const auto data = tokenize_corpus(std::vector{plain("xy"), plain("z")}, FakeTokenizer(256), kAllTrain);
  EXPECT_EQ(shown(data.train), "eXYEZE");
  EXPECT_EQ(starts(data.train), (std::vector<int64_t>{0, 3}));
  EXPECT_TRUE(data.validation.tokens.empty());
}

TEST(TokenizeCorpus, BothTokensFrameEachDocument) {
  const std::vector documents{plain("xy"), plain("z")};
  const auto data = tokenize_corpus(documents, FakeTokenizer(256, 257), kAllTrain);
  EXPECT_EQ(shown(data.train), "bXYEbZE");
  EXPECT_EQ(starts(data.train), (std::vector<int64_t>{0, 4}));
  // A vocabulary whose beginning is its end counts as one with an end only.
  EXPECT_EQ(shown(tokenize_corpus(documents, FakeTokenizer(256, 256), kAllTrain).train), "eXYEZE");
}

TEST(TokenizeCorpus, WithoutSpecialTokensTheFirstOfADocumentIsNotScored) {
  const auto data = tokenize_corpus(std::vector{plain("xy"), plain("z")}, FakeTokenizer(std::nullopt), kAllTrain);
  EXPECT_EQ(shown(data.train), "xYz");
  EXPECT_EQ(data.train.documents[0].scored_bytes, 1);
  EXPECT_EQ(data.train.documents[1].scored_bytes, 0);
  EXPECT_EQ(data.train.documents[1].text_bytes, 1);
}

TEST(TokenizeCorpus, TheEndOfACutDocumentIsNotLearnt) {
  const auto data = tokenize_corpus(std::vector{plain("abcd"), plain("efgh")}, FakeTokenizer(256), {.validation_fraction = 0.5});
  EXPECT_EQ(shown(data.train), "eABeEFe");
  EXPECT_EQ(shown(data.validation), "eCDEGHE");
  EXPECT_EQ(data.train.documents[0], (TokenDocument{0, 2, 2, 0, 1}));
  EXPECT_EQ(data.validation.documents[1].first_token, 3);
}

TEST(TokenizeCorpus, ConversationMaskIsExact) {
  Document chat = plain("uaAnswerUmoreA2");
  chat.text = "user:answer.user:more.";
  chat.scored = std::vector<ByteRange>{{5, 12}, {17, 22}};  // "answer." and "more."
  Document open = chat;  // ends with the user's words
  open.scored = std::vector<ByteRange>{{5, 12}};
  const auto data = tokenize_corpus(std::vector{chat, open, chat}, FakeTokenizer(256), kAllTrain);
  EXPECT_EQ(shown(data.train), "euser:ANSWER.user:MORE.Euser:ANSWER.user:more.euser:ANSWER.user:MORE.E");
  EXPECT_EQ(data.train.documents[0].scored_bytes, 12);
  EXPECT_EQ(data.train.documents[1].scored_bytes, 7);
}

// Property: the streams of the embedded corpus decode to its bytes, each exactly once.
TEST(TokenizeCorpus, StreamsHoldEveryByteOfTheCorpusOnce) {
  const auto documents = read_corpus(SW_SOURCE_DIR "/data/english_classics.txt");
  const auto data = tokenize_corpus(documents, FakeTokenizer(256), {});
  EXPECT_EQ(data.validation.tokens.size(), 198185u + 9);        // the sum of the tenths, and 9 end tokens
  EXPECT_EQ(data.train.tokens.size(), 1981872u - 198185u + 9);  // 1,981,886 bytes less seven separators of 2 bytes
  const FakeTokenizer tokenizer;
  for (size_t i = 0; i < documents.size(); ++i) {
    std::string text;
    for (const auto* split : {&data.train, &data.validation}) {
      const auto begin = split->documents[i].first_token;
      const auto end = i + 1 < documents.size() ? split->documents[i + 1].first_token : static_cast<int64_t>(split->tokens.size());
      text += tokenizer.decode(std::span(split->tokens).subspan(begin, end - begin), true);
      EXPECT_EQ(data.names[split->documents[i].name], documents[i].name);
      EXPECT_EQ(data.names[split->documents[i].domain], documents[i].domain);
    }
    EXPECT_EQ(text, documents[i].text) << documents[i].name;
  }
}

TEST(TokenizeCorpus, ProgressReachesTheTotal) {
  std::vector<int64_t> seen;
  const auto progress = [&](int64_t done, int64_t total) {
    EXPECT_EQ(total, 8);
    seen.push_back(done);
  };
  (void)tokenize_corpus(std::vector{plain("abcd"), plain("efgh")}, FakeTokenizer(256), {.validation_fraction = 0.5}, progress);
  EXPECT_EQ(seen, (std::vector<int64_t>{2, 4, 6, 8}));
}

TEST(TokenCache, IsReusedUntilSomethingChanges) {
  const TempFolder folder;
  const auto path = folder / "tokens.bin";
  std::vector documents{plain("abcdefghij", "first")};
  int made = 0;
  const auto open = [&](const Tokenizer& tokenizer, SplitOptions options) {
    bool is_made = false;
    auto file = open_token_file(path, documents, tokenizer, options, [&](int64_t, int64_t) { is_made = true; });
    made += is_made;
    return file;
  };
  const auto expect_made = [&](int times) { EXPECT_EQ(made, times); };

  EXPECT_EQ(open(FakeTokenizer(256), {}).train().size(), 11);  // e, 9 bytes, e
  expect_made(1);
  EXPECT_EQ(open(FakeTokenizer(256), {}).validation().size(), 3);
  expect_made(1);
  EXPECT_EQ(open(FakeTokenizer(256), {.validation_fraction = 0.2}).validation().size(), 4);
  expect_made(2);
  open(FakeTokenizer(257), {.validation_fraction = 0.2});
  expect_made(3);
  documents[0].text[3] = 'X';
  EXPECT_EQ(open(FakeTokenizer(257), {.validation_fraction = 0.2}).train().token(4), 'X');
  expect_made(4);
  documents[0].domain = "other";
  open(FakeTokenizer(257), {.validation_fraction = 0.2});
  expect_made(5);
  documents[0].scored = std::vector<ByteRange>{{0, 10}};
  open(FakeTokenizer(257), {.validation_fraction = 0.2});
  expect_made(6);

  std::string damaged = read_text_file(path);
  damaged.resize(damaged.size() / 2);
  write_file_atomic(path, damaged);
  open(FakeTokenizer(257), {.validation_fraction = 0.2});
  expect_made(7);
  open(FakeTokenizer(257), {.validation_fraction = 0.2});
  expect_made(7);
}

}  // namespace
}  // namespace switchyard::data
