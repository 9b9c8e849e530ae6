#include "data/batches.h"

#include "data/permutation.h"
#include "data/tokenize_corpus.h"
#include "data_fixtures.h"
#include "expect_error.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <string>
#include <vector>

namespace switchyard::data {
namespace {

using testing::expect_error;

// A stream in memory: token i has id i, so that every window shows where it comes from.
struct NumberStream {
  std::vector<int32_t> ids;
  std::vector<uint8_t> bits;
  std::vector<TokenDocument> documents;

  NumberStream(int64_t size, const std::vector<int64_t>& starts) : bits(static_cast<size_t>(size + 7) / 8, 0xFF) {
    ids.resize(static_cast<size_t>(size));
    std::iota(ids.begin(), ids.end(), 0);
    bits[0] = 0xFE;  // nothing stands before token 0
    for (const int64_t start : starts) documents.push_back({start, 1, 1, 0, 0});
  }
  void unscore(int64_t i) { bits[i / 8] = static_cast<uint8_t>(bits[i / 8] & ~(1u << (i % 8))); }
  TokenStream stream() const { return TokenStream(std::as_bytes(std::span(ids)), 4, std::as_bytes(std::span(bits)), documents); }
};

TrainBatchOptions options(int64_t seq_len, int64_t batch_size, uint64_t seed = 3) {
  return {.seq_len = seq_len, .batch_size = batch_size, .seed = seed};
}

TEST(Permutation, IsABijectionForEverySize) {
  for (uint64_t size = 1; size <= 300; ++size) {
    const Permutation order(RandomStream(size, "order"), size);
    std::vector<bool> seen(size, false);
    for (uint64_t i = 0; i < size; ++i) {
      const uint64_t element = order(i);
      ASSERT_LT(element, size);
      ASSERT_FALSE(seen[element]) << "size " << size;
      seen[element] = true;
    }
  }
}

TEST(Permutation, IsTheSameOnEveryMachine) {
  // Recorded from a second implementation in Python (arbitrary integers).
  const Permutation ten(RandomStream(7, "order"), 10), million(RandomStream(7, "order"), 1000003);
  const uint64_t of_ten[] = {5, 6, 2, 0, 9, 8, 1, 7, 3, 4}, of_million[] = {946486, 364468, 352620, 752076};
  for (uint64_t i = 0; i < 10; ++i) EXPECT_EQ(ten(i), of_ten[i]);
  for (uint64_t i = 0; i < 4; ++i) EXPECT_EQ(million(i), of_million[i]);
}

TEST(Permutation, PutsEveryElementEverywhereEquallyOften) {
  // Chi-square over the 30 x 30 table (position, element) of 3000 streams: 29 * 29 = 841 degrees of freedom, standard
  // deviation sqrt(2 * 841) = 41; five of them bound the statistic.
  constexpr int kSize = 30, kStreams = 3000;
  std::vector<int> table(kSize * kSize, 0);
  for (int s = 0; s < kStreams; ++s) {
    const Permutation order(RandomStream(5, "order").at("s", static_cast<uint64_t>(s)), kSize);
    for (int i = 0; i < kSize; ++i) ++table[static_cast<size_t>(i) * kSize + order(static_cast<uint64_t>(i))];
  }
  const double mean = static_cast<double>(kStreams) / kSize;
  double chi_square = 0;
  for (const int count : table) chi_square += (count - mean) * (count - mean) / mean;
  EXPECT_NEAR(chi_square, 841, 5 * 41);
}

// Property: an epoch predicts every token exactly once, but for the remainder, and each from the token before it.
TEST(TrainBatches, EpochPredictsEveryTokenOnce) {
  for (const int64_t size : {101, 100, 64, 37})
    for (const int64_t seq_len : {1, 5, 10, 36}) {
      const NumberStream numbers(size, {0, size / 3});
      const TrainBatches batches(numbers.stream(), options(seq_len, 1));
      ASSERT_EQ(batches.windows_per_epoch(), size / seq_len);
      for (int64_t epoch = 0; epoch < 3; ++epoch) {
        std::vector<int> as_input(static_cast<size_t>(size), 0), as_label(static_cast<size_t>(size), 0);
        for (int64_t w = 0; w < batches.windows_per_epoch(); ++w) {
          const Batch batch = batches.batch(epoch * batches.windows_per_epoch() + w);
          for (int64_t i = 0; i < seq_len; ++i) {
            ++as_input[static_cast<size_t>(batch.input_ids[i])];
            const int64_t next = (batch.input_ids[i] + 1) % size;
            EXPECT_EQ(batch.labels[i], next == 0 ? kIgnoredLabel : next);
            if (next != 0) ++as_label[static_cast<size_t>(next)];
          }
        }
        for (int64_t i = 0; i < size; ++i) {
          ASSERT_LE(as_input[i], 1);
          ASSERT_LE(as_label[i], 1);
        }
        EXPECT_EQ(std::accumulate(as_input.begin(), as_input.end(), int64_t{0}), size / seq_len * seq_len);
      }
    }
}

TEST(TrainBatches, OrderIsTheSameOnEveryMachine) {
  // First tokens of 24 windows of 10 out of 101 tokens, seed 3; recorded from a second implementation in Python.
  const int64_t expected[] = {5, 96, 76, 25, 15, 56, 66, 45, 86, 35, 12, 83, 52, 42, 62, 22, 73, 32, 93, 2, 25, 65, 95, 85};
  const NumberStream numbers(101, {0});
  const TrainBatches batches(numbers.stream(), options(10, 4));
  for (int64_t row = 0; row < 24; ++row) EXPECT_EQ(batches.batch(row / 4).input_ids[static_cast<size_t>(row % 4 * 10)], expected[row]);
}

TEST(TrainBatches, BatchIsAPureFunctionOfTheStep) {
  const NumberStream numbers(1009, {0, 400, 500});
  auto o = options(16, 6);
  o.micro_batches = 3;
  const TrainBatches batches(numbers.stream(), o);
  std::vector<Batch> run;
  for (int64_t step = 0; step < 20; ++step)
    for (int64_t micro = 0; micro < 3; ++micro) run.push_back(batches.batch(step, micro));
  const TrainBatches resumed(numbers.stream(), o);
  for (int64_t step = 19; step >= 0; --step)
    for (int64_t micro = 2; micro >= 0; --micro) EXPECT_EQ(resumed.batch(step, micro), run[static_cast<size_t>(step * 3 + micro)]);
  o.seed = 4;
  EXPECT_NE(TrainBatches(numbers.stream(), o).batch(0), run[0]);
}

TEST(TrainBatches, RanksAndMicroBatchesShareTheSameRows) {
  const NumberStream numbers(1009, {0, 400, 500});
  const TrainBatches one(numbers.stream(), options(16, 12));
  for (int64_t step = 0; step < 12; ++step) {
    std::vector<int32_t> rows;
    for (int64_t micro = 0; micro < 2; ++micro)
      for (int64_t rank = 0; rank < 3; ++rank) {
        auto o = options(16, 6);
        o.micro_batches = 2;
        o.rank = rank;
        o.num_ranks = 3;
        const Batch part = TrainBatches(numbers.stream(), o).batch(step, micro);
        EXPECT_EQ(part.batch, 2);
        rows.insert(rows.end(), part.input_ids.begin(), part.input_ids.end());
      }
    EXPECT_EQ(rows, one.batch(step).input_ids);
  }
}

TEST(TrainBatches, SegmentsAndPositionsFollowTheDocuments) {
  // One window that takes in all of the ring but one token, begun at many places.
  const NumberStream numbers(12, {0, 4, 9});
  for (uint64_t seed = 0; seed < 40; ++seed) {
    const Batch batch = TrainBatches(numbers.stream(), options(11, 1, seed)).batch(0);
    int32_t segment = 0, position = 0;
    for (size_t i = 0; i < 11; ++i) {
      const int32_t id = batch.input_ids[i];
      if (i > 0 && (id == 0 || id == 4 || id == 9)) ++segment, position = 0;
      EXPECT_EQ(batch.segments[i], segment);
      EXPECT_EQ(batch.positions[i], position++);
      EXPECT_EQ(batch.documents[i], id < 4 ? 0 : id < 9 ? 1 : 2);
    }
    auto o = options(11, 1, seed);
    o.cross_documents = true;
    const Batch crossing = TrainBatches(numbers.stream(), o).batch(0);
    EXPECT_EQ(crossing.input_ids, batch.input_ids);
    EXPECT_EQ(crossing.labels, batch.labels);
    EXPECT_EQ(crossing.documents, batch.documents);
    for (int32_t i = 0; i < 11; ++i) {
      EXPECT_EQ(crossing.segments[static_cast<size_t>(i)], 0);
      EXPECT_EQ(crossing.positions[static_cast<size_t>(i)], i);
    }
  }
}

TEST(TrainBatches, ARingOfOneDocumentIsCutWhereItCloses) {
  const NumberStream numbers(12, {0});
  bool closes = false;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const Batch batch = TrainBatches(numbers.stream(), options(11, 1, seed)).batch(0);
    for (size_t i = 1; i < 11; ++i) {
      const bool wraps = batch.input_ids[i] == 0;
      closes |= wraps;
      EXPECT_EQ(batch.segments[i] != batch.segments[i - 1], wraps);
    }
  }
  EXPECT_TRUE(closes);
}

TEST(TrainBatches, ImpossibleSizesAreRefused) {
  const NumberStream numbers(12, {0});
  const auto refuse = [&](TrainBatchOptions o, std::initializer_list<std::string_view> words) {
    expect_error(ErrorKind::config, words, [&] { TrainBatches(numbers.stream(), o); });
  };
  refuse(options(0, 1), {"seq_len = 0"});
  refuse(options(4, -1), {"batch_size = -1"});
  refuse(options(12, 1), {"12 tokens", "seq_len = 12", "at least 13"});
  refuse({.seq_len = 4, .batch_size = 4, .micro_batches = 0}, {"micro_batches = 0"});
  refuse({.seq_len = 4, .batch_size = 4, .num_ranks = 3}, {"batch_size = 4", "3 ranks"});
  refuse({.seq_len = 4, .batch_size = 4, .rank = 2, .num_ranks = 2}, {"rank = 2", "0 to 1"});
}

// Property: each scored token is a label exactly once, whatever the window and batch sizes; the rest is padding.
TEST(EvalBatches, EveryScoredTokenIsPredictedOnce) {
  NumberStream numbers(50, {0, 7, 30});
  numbers.unscore(7);
  numbers.unscore(33);
  const TokenStream stream = numbers.stream();
  for (const int64_t seq_len : {1, 7, 48, 49, 50, 200})
    for (const int64_t batch_size : {1, 3, 100}) {
      const EvalBatches batches(stream, {.seq_len = seq_len, .batch_size = batch_size});
      std::map<int32_t, int> labels;
      int64_t scored_tokens = 0, rows = 0;
      for (int64_t b = 0; b < batches.size(); ++b) {
        const Batch batch = batches.batch(b);
        EXPECT_EQ(batch.seq, seq_len);
        rows += batch.batch;
        scored_tokens += batch.scored_tokens;
        for (size_t i = 0; i < batch.labels.size(); ++i) {
          if (batch.labels[i] != kIgnoredLabel) {
            ++labels[batch.labels[i]];
            EXPECT_EQ(batch.labels[i], batch.input_ids[i] + 1);
          }
          EXPECT_EQ(batch.segments[i] == kPadding, batch.documents[i] == kPadding);
          EXPECT_TRUE(batch.segments[i] != kPadding || batch.labels[i] == kIgnoredLabel);
        }
      }
      EXPECT_EQ(rows, (49 + seq_len - 1) / seq_len);
      EXPECT_EQ(scored_tokens, 47);
      EXPECT_EQ(labels.size(), 47u);
      for (const auto& [id, times] : labels) EXPECT_EQ(times, 1) << id;
    }
}

TEST(EvalBatches, BitsPerByteOfAUniformModelAreItsCodeLength) {
  // A model that gives each of 257 symbols 1/257 needs log2(257) bits for every byte and for every end token.
  const TempFolder folder;
  const std::vector<Document> documents{{"a", "", std::string(70, 'x'), {}}, {"b", "", std::string(30, 'y'), {}}};
  const auto file = open_token_file(folder / "t.bin", documents, FakeTokenizer(256), {.validation_fraction = 0.5});
  const EvalBatches batches(file.validation(), {.seq_len = 8, .batch_size = 2});
  const double nats_per_token = std::log(257.0);
  const double bits_per_byte = nats_per_token / (std::log(2.0) * batches.bytes_per_token());
  EXPECT_NEAR(bits_per_byte, std::log2(257.0) * (50 + 2) / 50, 1e-12);
}

TEST(EvalBatches, PartOfTheWindowsIsSpreadEvenly) {
  const NumberStream numbers(101, {0});
  const EvalBatches batches(numbers.stream(), {.seq_len = 10, .batch_size = 4, .max_windows = 4});
  ASSERT_EQ(batches.size(), 1);
  const Batch batch = batches.batch(0);
  const int32_t starts[] = {0, 20, 50, 70};
  for (int64_t row = 0; row < 4; ++row) EXPECT_EQ(batch.input_ids[static_cast<size_t>(row * 10)], starts[row]);
  EXPECT_EQ(EvalBatches(numbers.stream(), {.seq_len = 10, .batch_size = 4, .max_windows = 1000}).size(), 3);
}

TEST(EvalBatches, NothingToEvaluateIsRefused) {
  const NumberStream one(1, {0}), ten(10, {0});
  const auto refuse = [](const TokenStream& stream, EvalBatchOptions o, std::initializer_list<std::string_view> words) {
    expect_error(ErrorKind::config, words, [&] { EvalBatches(stream, o); });
  };
  refuse(one.stream(), {.seq_len = 4, .batch_size = 1}, {"nothing to evaluate", "1 tokens"});
  refuse(TokenStream(), {.seq_len = 4, .batch_size = 1}, {"nothing to evaluate", "0 tokens"});
  refuse(ten.stream(), {.seq_len = 0, .batch_size = 1}, {"seq_len = 0"});
  refuse(ten.stream(), {.seq_len = 1, .batch_size = 1, .max_windows = -1}, {"max_windows = -1"});
}

}  // namespace
}  // namespace switchyard::data
