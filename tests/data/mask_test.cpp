#include "data/mask.h"

#include <gtest/gtest.h>

namespace switchyard::data {
namespace {

// Two rows: a document of 40 tokens and padding; two documents, the second with a question that is not scored.
Batch sample() {
  Batch b;
  b.batch = 2;
  b.seq = 50;
  for (int32_t i = 0; i < 100; ++i) {
    const bool padding = i >= 40 && i < 50, question = i >= 80 && i < 90;
    b.input_ids.push_back(i);
    b.segments.push_back(padding ? -1 : i >= 80 ? 1 : 0);
    b.labels.push_back(padding || i == 39 || i == 99 || question ? kIgnoredLabel : i + 1);
    b.positions.push_back(i % 50);
    b.documents.push_back(0);
  }
  return b;
}

TEST(MaskTokens, MasksTheStatedShareAndAsksForWhatWasThere) {
  const Batch before = sample();
  int64_t masked = 0, chances = 0;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    const Batch b = mask_tokens(before, 256, RandomStream(seed));
    int64_t scored = 0;
    for (size_t i = 0; i < 100; ++i) {
      if (b.labels[i] == kIgnoredLabel) {
        EXPECT_EQ(b.input_ids[i], before.input_ids[i]);
        continue;
      }
      EXPECT_EQ(b.labels[i], before.input_ids[i]);
      EXPECT_EQ(b.input_ids[i], 256);
      EXPECT_GE(b.segments[i], 0);
      EXPECT_FALSE(i > 80 && i < 91) << "the answer to position " << i << " is not scored";
      ++scored;
    }
    EXPECT_EQ(b.scored_tokens, scored);
    EXPECT_GE(scored, 1);
    masked += scored;
    chances += 80;  // 90 tokens without padding, 10 of them not scored
  }
  EXPECT_NEAR(static_cast<double>(masked) / static_cast<double>(chances), kMaskFraction, 0.01);
}

TEST(MaskTokens, IsAFunctionOfTheStreamAndMasksAtLeastOneToken) {
  EXPECT_EQ(mask_tokens(sample(), 256, RandomStream(5)), mask_tokens(sample(), 256, RandomStream(5)));
  EXPECT_NE(mask_tokens(sample(), 256, RandomStream(5)), mask_tokens(sample(), 256, RandomStream(6)));
  const Batch one{.batch = 1, .seq = 1, .input_ids = {7}, .labels = {kIgnoredLabel}, .segments = {0}, .positions = {0}, .documents = {0}};
  for (uint64_t seed = 0; seed < 20; ++seed) EXPECT_EQ(mask_tokens(one, 9, RandomStream(seed)).labels[0], 7);
}

}  // namespace
}  // namespace switchyard::data
