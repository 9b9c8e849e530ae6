#include "io/tokenizer/bpe_trainer.h"

#include "io/tokenizer/byte_alphabet.h"
#include "io/tokenizer/byte_vocabulary.h"
#include "io/tokenizer/pipeline_tokenizer.h"
#include "io/tokenizer/splitter.h"
#include "io/tokenizer/utf8.h"
#include "switchyard/error.h"

#include <algorithm>
#include <set>

namespace switchyard {
namespace io {
namespace {

constexpr int64_t kMinPairCount = 2;  // what comes once is no pattern

// Words with their counts, in the order of their first appearance.
std::vector<std::pair<std::string_view, int64_t>> count_words(std::span<const std::string_view> texts) {
  std::vector<std::pair<std::string_view, int64_t>> counts;
  std::unordered_map<std::string_view, size_t> index;
  const auto splitter = make_gpt2_splitter();
  std::vector<std::string_view> words;
  for (const std::string_view text : texts) {
    for (size_t position = 0; position < text.size();) {
      const Stretch stretch = next_stretch(text, position);
      position += stretch.text.size();
      words.clear();
      if (stretch.is_valid) {
        splitter->split(stretch.text, words);
      } else {
        words.push_back(stretch.text);
      }
      for (const std::string_view word : words) {
        const auto [place, is_new] = index.try_emplace(word, counts.size());
        if (is_new) counts.emplace_back(word, 0);
        ++counts[place->second].second;
      }
    }
  }
  return counts;
}

}  // namespace

void BpeTrainer::add_word(std::string_view word, int64_t count) {
  const auto index = static_cast<int32_t>(words_.size());
  Word& added = words_.emplace_back();
  added.count = count;
  for (const char c : word) added.ids.push_back(static_cast<unsigned char>(c));
  for (size_t i = 0; i + 1 < added.ids.size(); ++i) change({added.ids[i], added.ids[i + 1]}, count, index);
}

std::optional<BpeTrainer::Pair> BpeTrainer::best_pair() {
  if (!is_ranked_) {
    for (const auto& [packed, info] : pairs_)
      heap_.push_back({info.count, {static_cast<int32_t>(packed >> 32), static_cast<int32_t>(packed)}});
    std::make_heap(heap_.begin(), heap_.end(), is_worse);
    changed_.clear();
    is_ranked_ = true;
  }
  while (!heap_.empty()) {
    const Ranked best = heap_.front();
    if (best.count < kMinPairCount) return std::nullopt;
    if (count_of(best.pair) == best.count) return best.pair;
    std::pop_heap(heap_.begin(), heap_.end(), is_worse);  // its count has changed since; a newer entry is in the heap
    heap_.pop_back();
  }
  return std::nullopt;
}

void BpeTrainer::merge(Pair pair, int32_t token) {
  changed_.clear();
  const std::vector<int32_t> words = std::move(pairs_[key(pair)].words);
  for (const int32_t word : words) merge_in_word(pair, token, word);
  pairs_.erase(key(pair));
  std::sort(changed_.begin(), changed_.end());
  changed_.erase(std::unique(changed_.begin(), changed_.end()), changed_.end());
  for (const Pair other : changed_)
    if (const int64_t count = count_of(other); count > 0) rank(other, count);
}

int64_t BpeTrainer::count_of(Pair pair) const {
  const auto found = pairs_.find(key(pair));
  return found == pairs_.end() ? 0 : found->second.count;
}

void BpeTrainer::change(Pair pair, int64_t by, int32_t word) {
  PairInfo& info = pairs_[key(pair)];
  info.count += by;
  if (by > 0 && (info.words.empty() || info.words.back() != word)) info.words.push_back(word);
  if (is_ranked_) changed_.push_back(pair);
}

// Every replacement changes the counts as if it were the only one: the neighbour on the left is already merged, the one
// on the right not yet.
void BpeTrainer::merge_in_word(Pair pair, int32_t token, int32_t word) {
  auto& [ids, count] = words_[static_cast<size_t>(word)];
  size_t kept = 0;
  for (size_t i = 0; i < ids.size(); ++kept) {
    if (i + 1 == ids.size() || ids[i] != pair.left || ids[i + 1] != pair.right) {
      ids[kept] = ids[i++];
      continue;
    }
    change(pair, -count, word);
    if (kept > 0) {
      change({ids[kept - 1], pair.left}, -count, word);
      change({ids[kept - 1], token}, count, word);
    }
    if (i + 2 < ids.size()) {
      change({pair.right, ids[i + 2]}, -count, word);
      change({token, ids[i + 2]}, count, word);
    }
    ids[kept] = token;
    i += 2;
  }
  ids.resize(kept);
}

void BpeTrainer::rank(Pair pair, int64_t count) {
  heap_.push_back({count, pair});
  std::push_heap(heap_.begin(), heap_.end(), is_worse);
}

}  // namespace io

std::unique_ptr<Tokenizer> train_bpe(std::span<const std::string_view> texts, int64_t vocab_size,
                                     const std::function<void(int64_t, int64_t)>& progress) {
  constexpr int64_t kFirst = io::kEndOfTextId + 1;
  constexpr int64_t kMost = int64_t{1} << 24;
  if (vocab_size < kFirst || vocab_size > kMost)
    fail(ErrorKind::usage, "vocab_size = {}; expected {} (the bytes and the end of text) to {}", vocab_size, kFirst, kMost);
  io::BpeTrainer trainer;
  for (const auto& [word, count] : io::count_words(texts)) trainer.add_word(word, count);

  io::TokenizerSpec spec = io::byte_vocabulary(/*splits_words=*/true);
  auto& model = std::get<io::BpeSpec>(spec.model);
  std::vector<std::string> token_of(static_cast<size_t>(kFirst));  // by id, in the byte alphabet
  for (const auto& [token, id] : model.vocab) token_of[static_cast<size_t>(id)] = token;
  std::set<io::BpeTrainer::Pair> seen;
  while (static_cast<int64_t>(token_of.size()) < vocab_size) {
    const auto best = trainer.best_pair();
    if (!best) break;
    const std::string left = token_of[static_cast<size_t>(best->left)];
    const std::string right = token_of[static_cast<size_t>(best->right)];
    // Two pairs may spell the same token ("a"+"bc", "ab"+"c"): then the merge is new, but the token is not, and a pair
    // that was merged everywhere can come up again.
    if (seen.insert(*best).second) model.merges.emplace_back(left, right);
    const auto [place, is_new] = model.vocab.try_emplace(left + right, static_cast<int32_t>(token_of.size()));
    if (is_new) token_of.push_back(place->first);
    trainer.merge(*best, place->second);
    if (progress) progress(static_cast<int64_t>(token_of.size()), vocab_size);
  }
  return std::make_unique<io::PipelineTokenizer>(std::move(spec), "trained tokenizer");
}

}  // namespace switchyard
