// The domain of a document travels with its tokens, under the same number in both splits.
#include "data/batches.h"
#include "data/tokenize_corpus.h"
#include "data_fixtures.h"

#include <gtest/gtest.h>

#include <map>

namespace switchyard::data {
namespace {

// Domains come neither in alphabetical order nor in the same order in both splits.
TokenFile mixed_file(const TempFolder& folder) {
  std::vector<Document> documents;
  for (const char* domain : {"prose", "code", "", "prose", "law", "code"})
    documents.push_back({.name = "doc " + std::to_string(documents.size()), .domain = domain, .text = std::string(40, 'a' + static_cast<char>(documents.size())), .scored = {}});
  return open_token_file(folder / "t.bin", documents, FakeTokenizer(), SplitOptions{.validation_fraction = 0.4});
}

std::string name_of(const TokenFile& file, int64_t tag) { return file.names()[static_cast<size_t>(file.domains()[static_cast<size_t>(tag)])]; }

TEST(Tags, AreNumbersOfTheDomainsInAlphabeticalOrder) {
  const TempFolder folder;
  const TokenFile file = mixed_file(folder);
  ASSERT_EQ(file.domains().size(), 4u);
  EXPECT_EQ(name_of(file, 0), "");
  EXPECT_EQ(name_of(file, 1), "code");
  EXPECT_EQ(name_of(file, 2), "law");
  EXPECT_EQ(name_of(file, 3), "prose");
}

// Oracle: letter of the text -> domain, as the corpus was written.
TEST(Tags, OfEveryTokenAreThoseOfItsDocumentInBothSplits) {
  const TempFolder folder;
  const TokenFile file = mixed_file(folder);
  const std::string domain_of_letter[] = {"prose", "code", "", "prose", "law", "code"};
  std::map<std::string, int64_t> seen;
  const auto check = [&](const Batch& batch) {
    for (size_t i = 0; i < batch.tags.size(); ++i) {
      EXPECT_EQ(batch.tags[i] < 0, batch.segments[i] < 0);
      if (batch.segments[i] < 0 || batch.input_ids[i] > 255) continue;
      const std::string& want = domain_of_letter[batch.input_ids[i] - 'a'];
      EXPECT_EQ(name_of(file, batch.tags[i]), want);
      ++seen[want];
    }
  };
  const TrainBatches train(file.train(), {.seq_len = 16, .batch_size = 2, .seed = 3});
  for (int64_t step = 0; step < 10; ++step) check(train.batch(step));
  EXPECT_EQ(seen.size(), 4u);
  ASSERT_GT(file.validation().size(), 0);
  const EvalBatches evaluation(file.validation(), {.seq_len = 50, .batch_size = 2});
  for (int64_t i = 0; i < evaluation.size(); ++i) check(evaluation.batch(i));
}

}  // namespace
}  // namespace switchyard::data
