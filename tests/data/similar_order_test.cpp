// Documents in an order in which neighbours are alike.
#include "data/similar_order.h"

#include "expect_error.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace switchyard::data::similar_order_test {  // its own: tests of a folder compile as one unit
namespace {

using switchyard::testing::expect_error;

std::vector<Document> documents_of(const std::vector<std::string>& texts) {
  std::vector<Document> out;
  for (size_t i = 0; i < texts.size(); ++i) out.push_back({.name = std::to_string(i), .domain = {}, .text = texts[i], .scored = {}});
  return out;
}

// Four topics with words of their own, dealt out in turn.
std::vector<Document> four_topics(int each) {
  std::vector<std::string> texts;
  for (int i = 0; i < each; ++i)
    for (const char* topic : {"ship sea sail wave", "bread flour oven salt", "star moon orbit sky", "king sword castle war"})
      texts.push_back(std::string(topic) + " and the of " + std::to_string(i) + " " + topic);
  return documents_of(texts);
}

TEST(SimilarOrder, SimilarityIsTheCosineOfLogarithmicCounts) {
  EXPECT_NEAR(similarity("the ship", "The SHIP!"), 1, 1e-6);
  EXPECT_NEAR(similarity("ship", "bread"), 0, 1e-6);
  // (ln 3, ln 2) against (ln 2, 0)
  EXPECT_NEAR(similarity("sea sea ship", "sea"), std::log(3) / std::hypot(std::log(3), std::log(2)), 1e-5);
  EXPECT_EQ(similarity("", "sea"), 0);
}

TEST(SimilarOrder, PutsTopicsTogetherAndLosesNobody) {
  const auto documents = four_topics(5);
  const auto order = similar_order(documents);
  auto sorted = order;
  std::sort(sorted.begin(), sorted.end());
  std::vector<int64_t> all(20);
  std::iota(all.begin(), all.end(), 0);
  EXPECT_EQ(sorted, all);
  EXPECT_EQ(order[0], 0);
  int changes = 0;
  for (size_t i = 1; i < 20; ++i) changes += order[i] % 4 != order[i - 1] % 4;
  EXPECT_EQ(changes, 3) << "given, every neighbour is of another topic";
}

// Oracle: the greedy rule by its definition.
TEST(SimilarOrder, EveryStepGoesToTheMostSimilarDocumentThatIsLeft) {
  const auto documents = documents_of({"a b c d", "x y", "a b", "b c d", "y z a", "c d", "x"});
  const auto order = similar_order(documents);
  std::vector<bool> used(documents.size());
  for (size_t i = 0; i + 1 < order.size(); ++i) {
    const auto here = static_cast<size_t>(order[i]);
    used[here] = true;
    size_t best = documents.size();
    for (size_t j = 0; j < documents.size(); ++j)
      if (!used[j] && (best == documents.size() || similarity(documents[here].text, documents[j].text) > similarity(documents[here].text, documents[best].text))) best = j;
    EXPECT_EQ(order[i + 1], static_cast<int64_t>(best)) << i;
  }
}

TEST(SimilarOrder, IsAnOptionOfTheData) {
  const auto given = in_order(four_topics(2), "given");
  EXPECT_EQ(given[1].name, "1");
  const auto similar = in_order(four_topics(2), "similar");
  EXPECT_EQ(similar[1].name, "4");
  EXPECT_EQ(similar.size(), 8u);
  EXPECT_TRUE(in_order({}, "similar").empty());
  expect_error(ErrorKind::config, {"data.order", "sorted"}, [] { (void)in_order(four_topics(1), "sorted"); });
}

}  // namespace
}  // namespace switchyard::data::similar_order_test
