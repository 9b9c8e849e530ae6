#include "data/split.h"

#include "data/corpus.h"
#include "data/fingerprint.h"
#include "data/utf8.h"
#include "data_fixtures.h"
#include "expect_error.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <set>

namespace switchyard::data {
namespace {

using testing::expect_error;

// Property: train and validation pieces of every document, put in order, give back its bytes exactly.
void expect_partition(const std::vector<Document>& documents, const Split& split) {
  std::vector<std::vector<ByteRange>> ranges(documents.size());
  for (const auto* side : {&split.train, &split.validation})
    for (const Piece& piece : *side) {
      EXPECT_GT(piece.bytes.size(), 0);
      ranges[static_cast<size_t>(piece.document)].push_back(piece.bytes);
    }
  for (size_t i = 0; i < documents.size(); ++i) {
    std::sort(ranges[i].begin(), ranges[i].end(), [](ByteRange a, ByteRange b) { return a.begin < b.begin; });
    int64_t at = 0;
    for (const auto& range : ranges[i]) {
      EXPECT_EQ(range.begin, at) << "document " << i;
      at = range.end;
    }
    EXPECT_EQ(at, static_cast<int64_t>(documents[i].text.size())) << "document " << i;
  }
}

TEST(Split, EmbeddedCorpusLeavesTheLastTenthOfEveryWork) {
  const auto documents = read_corpus(SW_SOURCE_DIR "/data/english_classics.txt");
  const Split split = split_documents(documents, {});
  expect_partition(documents, split);
  // floor(bytes / 10) of every row of data/english_classics.tsv; no cut lies inside a character there.
  const int64_t expected[] = {16288, 10035, 11231, 46626, 14437, 32050, 29135, 38383};
  ASSERT_EQ(split.validation.size(), 8u);
  for (size_t i = 0; i < 8; ++i) {
    EXPECT_EQ(split.validation[i].bytes.size(), expected[i]);
    EXPECT_EQ(split.validation[i].bytes.end, static_cast<int64_t>(documents[i].text.size()));
  }
  EXPECT_TRUE(texts_of(documents, split.validation)[0].starts_with(" me see the other,"));
}

TEST(Split, CutMovesBackToACharacter) {
  const std::string euro = "\xE2\x82\xAC";
  const std::vector<Document> documents{plain(euro + euro + euro + euro)};  // 12 bytes; half = 6, a third = 4: inside the third
  EXPECT_EQ(split_documents(documents, {.validation_fraction = 0.5}).train, (std::vector<Piece>{{0, {0, 6}}}));
  const Split third = split_documents(documents, {.validation_fraction = 0.34});
  EXPECT_EQ(third.train, (std::vector<Piece>{{0, {0, 6}}}));
  EXPECT_EQ(third.validation, (std::vector<Piece>{{0, {6, 12}}}));
}

TEST(Split, PartitionHoldsForAnyFractionAndLength) {
  for (const double fraction : {0.0, 0.001, 0.1, 0.5, 0.999})
    for (const int64_t limit : {0, 3, 200}) {
      std::vector<Document> documents;
      std::string text;
      for (int i = 0; i < 30; ++i) documents.push_back(plain(text += (i % 3 ? "a" : "\xF0\x9F\x98\x80")));
      const Split split = split_documents(documents, {fraction, limit});
      expect_partition(documents, split);
      EXPECT_TRUE(fraction > 0 || split.validation.empty());
      for (const auto* side : {&split.train, &split.validation})
        for (const auto piece : texts_of(documents, *side)) EXPECT_FALSE(find_invalid_utf8(piece));
    }
}

TEST(Split, ManyDocumentsGoWholeToOneSide) {
  std::vector<Document> documents;
  for (int i = 0; i < 205; ++i) documents.push_back(plain("document " + std::to_string(i)));
  const Split split = split_documents(documents, {});
  expect_partition(documents, split);
  EXPECT_EQ(split.validation.size(), 20u);  // floor(205 / 10)
  EXPECT_EQ(split.train.size(), 185u);

  // The side belongs to the text, not to the place in the file.
  const auto texts = texts_of(documents, split.validation);
  const std::set<std::string> before(texts.begin(), texts.end());
  std::reverse(documents.begin(), documents.end());
  const auto turned = texts_of(documents, split_documents(documents, {}).validation);
  EXPECT_EQ(std::set<std::string>(turned.begin(), turned.end()), before);
}

TEST(Split, EqualTextsFallOnTheSameSide) {
  std::vector<Document> documents;
  for (int i = 0; i < 300; ++i) documents.push_back(plain("text " + std::to_string(i % 100)));
  const Split split = split_documents(documents, {});
  expect_partition(documents, split);
  EXPECT_EQ(split.validation.size(), 30u);
  std::set<std::string_view> train, validation;
  for (const auto t : texts_of(documents, split.train)) train.insert(t);
  for (const auto t : texts_of(documents, split.validation)) validation.insert(t);
  for (const auto t : validation) EXPECT_EQ(train.count(t), 0u) << t;
}

TEST(Split, ConversationsAreNeverCut) {
  std::vector<Document> documents;
  for (int i = 0; i < 5; ++i) {
    documents.push_back(plain("conversation " + std::to_string(i)));
    documents.back().scored = std::vector<ByteRange>{{0, 4}};
  }
  const Split split = split_documents(documents, {});
  expect_partition(documents, split);
  EXPECT_EQ(split.train.size(), 4u);
  EXPECT_EQ(split.validation.size(), 1u);
  EXPECT_EQ(split_documents(std::span(documents).first(1), {}).train.size(), 1u);  // a single one is trained on
}

TEST(Split, ImpossibleFractionsAreRefused) {
  const std::vector<Document> documents{plain("a")};
  for (const double bad : {-0.1, 1.0, 2.0, std::numeric_limits<double>::quiet_NaN()})
    expect_error(ErrorKind::config, {"validation_fraction", "less than 1"},
                 [&] { (void)split_documents(documents, {.validation_fraction = bad}); });
  expect_error(ErrorKind::config, {"whole_documents_above = -1"}, [&] { (void)split_documents(documents, {.whole_documents_above = -1}); });
}

TEST(Fingerprint, KnowsOrderAndBorders) {
  EXPECT_NE(Fingerprint().add("ab").add("c").value(), Fingerprint().add("a").add("bc").value());
  EXPECT_NE(Fingerprint().add("a").add("b").value(), Fingerprint().add("b").add("a").value());
  EXPECT_NE(Fingerprint().add("").value(), Fingerprint().value());
  EXPECT_NE(Fingerprint().add(std::string_view("a\0", 2)).value(), Fingerprint().add("a").value());
  // Recorded from a second implementation in Python (arbitrary integers): the value is part of every cache file.
  EXPECT_EQ(Fingerprint().add("").value(), 0x5d3f02657e994a55u);
  EXPECT_EQ(Fingerprint().add("Hello, world").value(), 0x1ab4165e33170b65u);
  EXPECT_EQ(Fingerprint().add("ab").add("c").value(), 0x8459f050793ca364u);
  EXPECT_EQ(Fingerprint().add(5).value(), 0xecfec61c671b1e69u);
}

}  // namespace
}  // namespace switchyard::data
