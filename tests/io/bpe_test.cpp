// Merging and learning of merges against the definition, done slowly.
#include "base/files.h"
#include "expect_error.h"
#include "io/tokenizer/bpe_merger.h"
#include "io/tokenizer/bpe_trainer.h"
#include "io/tokenizer/pipeline_tokenizer.h"
#include "io/tokenizer/tokenizer.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <random>

namespace switchyard {
namespace {

using io::BpeMerger;
using io::BpeTrainer;
using testing::expect_error;
using Ids = std::vector<int32_t>;
using Pair = BpeTrainer::Pair;

// Replaces the pair from left to right.
Ids replace(const Ids& ids, Pair pair, int32_t token) {
  Ids out;
  for (size_t i = 0; i < ids.size(); ++i) {
    const bool match = i + 1 < ids.size() && ids[i] == pair.left && ids[i + 1] == pair.right;
    out.push_back(match ? token : ids[i]);
    i += match;
  }
  return out;
}

TEST(BpeMerger, EqualsMergingRankAfterRank) {
  constexpr uint32_t kSeed = 5;
  std::mt19937 random(kSeed);
  for (int round = 0; round < 300; ++round) {
    BpeMerger merger;
    std::map<Pair, std::pair<int32_t, int32_t>> merges;  // to rank and token
    for (int32_t rank = 0; rank < 40; ++rank) {
      const auto any = [&] { return static_cast<int32_t>(random() % static_cast<uint32_t>(4 + rank)); };
      const Pair pair{any(), any()};
      merges[pair] = {rank, 4 + rank};
      merger.add(pair.left, pair.right, rank, 4 + rank);
    }
    Ids ids(random() % 60);
    for (int32_t& id : ids) id = static_cast<int32_t>(random() % 4);
    Ids want = ids;
    // Definition: of the pairs that stand in the word, the best rank at its leftmost place.
    for (;;) {
      auto best = merges.end();
      size_t at = 0;
      for (size_t i = 0; i + 1 < want.size(); ++i) {
        const auto found = merges.find({want[i], want[i + 1]});
        if (found != merges.end() && (best == merges.end() || found->second.first < best->second.first)) best = found, at = i;
      }
      if (best == merges.end()) break;
      want[at] = best->second.second;
      want.erase(want.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    }
    BpeMerger::Scratch scratch;
    merger.merge(ids, scratch);
    ASSERT_EQ(ids, want) << "seed " << kSeed << ", round " << round;
  }
}

TEST(BpeTrainer, CountsStayThoseOfTheWords) {
  constexpr uint32_t kSeed = 8;
  std::mt19937 random(kSeed);
  for (int round = 0; round < 50; ++round) {
    BpeTrainer trainer;
    std::vector<std::pair<Ids, int64_t>> words;
    for (int i = 0; i < 20; ++i) {
      std::string word;
      for (uint32_t length = random() % 20; length > 0; --length) word += static_cast<char>('a' + random() % 3);
      words.emplace_back(Ids(word.begin(), word.end()), 1 + random() % 4);
      trainer.add_word(word, words.back().second);
    }
    for (int32_t token = 256; token < 300; ++token) {
      std::map<Pair, int64_t> counts;
      for (const auto& [ids, count] : words)
        for (size_t i = 0; i + 1 < ids.size(); ++i) counts[{ids[i], ids[i + 1]}] += count;
      std::optional<Pair> want;
      for (const auto& [pair, count] : counts) {
        ASSERT_EQ(trainer.count_of(pair), count) << "seed " << kSeed << ", round " << round << ", token " << token;
        if (count >= 2 && (!want || count > counts[*want])) want = pair;
      }
      ASSERT_EQ(trainer.best_pair(), want) << "seed " << kSeed << ", round " << round << ", token " << token;
      if (!want) break;
      for (auto& [ids, count] : words) ids = replace(ids, *want, token);
      trainer.merge(*want, token);
    }
  }
}

TEST(TrainBpe, LearnsTheObviousMerges) {
  const std::string_view texts[] = {"low low low lower", " lower"};
  const auto tokenizer = train_bpe(texts, 262);
  EXPECT_EQ(tokenizer->vocab_size(), 262);
  EXPECT_EQ(tokenizer->token_to_id("<|endoftext|>"), 256);
  EXPECT_EQ(tokenizer->eos_id(), 256);
  EXPECT_EQ(tokenizer->bos_id(), std::nullopt);
  EXPECT_EQ(tokenizer->token_to_id("lo"), 257);   // 5 times
  EXPECT_EQ(tokenizer->token_to_id("low"), 258);  // 5 times: (lo, w)
  EXPECT_EQ(tokenizer->token_to_id("Ġlow"), 259);
  EXPECT_EQ(tokenizer->token_to_id("er"), 260);     // (e, r) = (101, 114) comes before (Ġlow, er)
  EXPECT_EQ(tokenizer->token_to_id("Ġlower"), 261);
  EXPECT_EQ(tokenizer->encode(" lower low<|endoftext|>"), (Ids{261, 259, 256}));
}

TEST(TrainBpe, StopsWhenNothingRepeats) {
  const std::string_view texts[] = {"abab"};
  EXPECT_EQ(train_bpe(texts, 1000)->vocab_size(), 258);
  EXPECT_EQ(train_bpe({}, 1000)->vocab_size(), 257);
}

TEST(TrainBpe, RefusesSizesThatCannotBe) {
  for (const int64_t size : {int64_t{-1}, int64_t{0}, int64_t{256}, int64_t{1} << 40})
    expect_error(ErrorKind::usage, {"vocab_size", std::to_string(size), "257"}, [&] { (void)train_bpe({}, size); });
}

TEST(TrainBpe, IsWrittenAndReadBack) {
  const std::string text = read_text_file(std::string(SW_SOURCE_DIR) + "/data/english_classics.txt").substr(0, 200000);
  const std::string_view texts[] = {text};
  int64_t last = 0;
  const auto trained = train_bpe(texts, 600, [&](int64_t done, int64_t total) {
    EXPECT_GE(done, last);
    EXPECT_EQ(total, 600);
    last = done;
  });
  EXPECT_EQ(last, 600);
  const auto read = parse_tokenizer(trained->to_json().dump(), "written");
  EXPECT_EQ(dynamic_cast<const io::PipelineTokenizer&>(*read).spec(), dynamic_cast<const io::PipelineTokenizer&>(*trained).spec());
  const Ids ids = trained->encode(text);
  EXPECT_EQ(read->encode(text), ids);
  EXPECT_LT(ids.size(), text.size() / 2);
  EXPECT_EQ(trained->decode(ids), text);
}

// A text as one word: it is cut where no token can lie across, which must not show. Oracle: the definition on the whole text.
TEST(Bpe, CutsOfLongWordsDoNotShow) {
  constexpr uint32_t kSeed = 21;
  std::mt19937 random(kSeed);
  const std::vector<std::string> letters{"a", "b", "c", "\u2581"};
  for (int round = 0; round < 40; ++round) {
    nlohmann::json vocab, merges = nlohmann::json::array();
    for (int byte = 0; byte < 256; ++byte) vocab[fmt::format("<0x{:02X}>", byte)] = byte;
    std::vector<std::string> tokens = letters;
    for (const std::string& letter : letters) vocab[letter] = vocab.size();
    std::map<std::pair<std::string, std::string>, int> ranks;
    for (int i = 0; i < 12; ++i) {
      const std::string left = tokens[random() % tokens.size()], right = tokens[random() % tokens.size()];
      if (!ranks.emplace(std::pair(left, right), i).second) continue;
      merges.push_back({left, right});
      if (!vocab.contains(left + right)) vocab[left + right] = vocab.size();
      tokens.push_back(left + right);
    }
    const nlohmann::json file = {{"model", {{"type", "BPE"}, {"byte_fallback", true}, {"vocab", vocab}, {"merges", merges}}}};
    const auto tokenizer = parse_tokenizer(file.dump(), "test");
    std::vector<std::string> parts;
    std::string text;
    for (int i = 0; i < 200; ++i) text += parts.emplace_back(letters[random() % letters.size()]);
    for (;;) {
      auto best = ranks.end();
      size_t at = 0;
      for (size_t i = 0; i + 1 < parts.size(); ++i) {
        const auto found = ranks.find({parts[i], parts[i + 1]});
        if (found != ranks.end() && (best == ranks.end() || found->second < best->second)) best = found, at = i;
      }
      if (best == ranks.end()) break;
      parts[at] += parts[at + 1];
      parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    }
    Ids want;
    for (const std::string& part : parts) want.push_back(vocab.at(part));
    ASSERT_EQ(tokenizer->encode(text), want) << "seed " << kSeed << ", round " << round;
  }
}

double seconds(const std::function<void()>& action) {
  const auto start = std::chrono::steady_clock::now();
  action();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// A quadratic merge of these words would take minutes; the bounds are loose because tests share their machine.
TEST(Bpe, LongWordsAreNotQuadratic) {
  std::string word(1'000'000, 'a');
  std::mt19937 random(1);
  for (size_t i = word.size() / 2; i < word.size(); ++i) word[i] = static_cast<char>('a' + random() % 4);
  const std::string_view texts[] = {word};
  std::unique_ptr<Tokenizer> tokenizer;
  EXPECT_LT(seconds([&] { tokenizer = train_bpe(texts, 400); }), 30.0);
  EXPECT_LT(seconds([&] { EXPECT_EQ(tokenizer->decode(tokenizer->encode(word)), word); }), 30.0);
}

}  // namespace
}  // namespace switchyard
