#include "infer/engine.h"

#include "base/clock.h"
#include "infer/text_stream.h"
#include "io/tokenizer/tokenizer.h"
#include "models/eval_mode.h"
#include "models/mixer_of.h"
#include "switchyard/error.h"
#include "switchyard/random.h"

#include <algorithm>

namespace switchyard {
std::vector<PagedCache::LayerShape> paged_layers(const ModelSpec& spec) {
  const ModelSpec s = spec.resolved();
  std::vector<PagedCache::LayerShape> layers;
  for (int64_t i = 0; i < s.num_layers; ++i) {
    const auto mixer = sizes_of_mixer(s, i);
    if (!mixer || !mixer->pages()) {
      layers.push_back({});
      continue;
    }
    const auto room = mixer->new_state(1, 1).at(0);  // [1, 1, G, c]
    layers.push_back({room.size(2), room.size(3)});
  }
  return layers;
}

// A request that runs.
struct Engine::Text {
  int64_t request = 0, sequence = 0;
  EngineRequest asked;
  RandomStream random{0};
  TextStream stream;
  int32_t end_id = -1;
  int64_t budget = 0;       // new tokens at most
  size_t fed = 0;           // of seen, that the cache holds
  std::vector<int32_t> seen;
  Generated result{{}, "", "length", 0, 0};
  Clock::time_point start = Clock::now();
  bool done = false;

  // What the next call may be given of it, at most `room` tokens.
  [[nodiscard]] std::span<const int32_t> next(int64_t room) const {
    return std::span<const int32_t>(seen).subspan(fed, std::min(seen.size() - fed, static_cast<size_t>(room)));
  }
};

Engine::Engine(LanguageModel& model, const Tokenizer* tokenizer, const EngineOptions& options) : model_(model), tokenizer_(tokenizer), options_(options) {
  if (options.max_sequences < 1 || options.step_tokens < 1 || options.cache_tokens < 0)
    fail(ErrorKind::usage, "max_sequences = {}, step_tokens = {}, cache_tokens = {}: expected at least 1, 1 and 0", options.max_sequences, options.step_tokens, options.cache_tokens);
  (void)kernels::parse_kv_format(options.kv_cache);
  if (!model.spec().causal) fail(ErrorKind::unsupported, "the model fills in masked tokens (model.causal = false): it cannot continue a text");
  if (const std::string obstacle = model.paging_obstacle(); !obstacle.empty()) fail(ErrorKind::unsupported, "many texts at once: {}", obstacle);
}

int64_t Engine::submit(EngineRequest request) {
  check_request(model_.spec(), tokenizer_, request.prompt, request.options);
  longest_ = std::max(longest_, static_cast<int64_t>(request.prompt.size()) + token_budget(model_.spec(), request.prompt, request.options));
  waiting_.emplace_back(next_, std::move(request));
  return next_++;
}

// Takes requests in their order while there is room for all that they may become.
void Engine::admit() {
  if (waiting_.empty()) return;
  if (!cache_)
    cache_ = std::make_unique<PagedCache>(paged_layers(model_.spec()), kernels::parse_kv_format(options_.kv_cache),
                                          options_.cache_tokens > 0 ? options_.cache_tokens : options_.max_sequences * (longest_ + kernels::kPageTokens));
  while (!waiting_.empty() && static_cast<int64_t>(running_.size()) < options_.max_sequences) {
    auto& [number, request] = waiting_.front();
    const int64_t budget = token_budget(model_.spec(), request.prompt, request.options), longest = static_cast<int64_t>(request.prompt.size()) + budget;
    const int64_t sequence = cache_->open(longest);
    if (sequence < 0 && running_.empty())
      fail(ErrorKind::usage, "request {} may grow to {} tokens, but the cache has room for {}; raise cache_tokens", number, longest, cache_->free_tokens());
    if (sequence < 0) return;
    auto text = std::make_shared<Text>();
    text->request = number;
    text->sequence = sequence;
    text->budget = budget;
    text->seen = request.prompt;
    text->random = RandomStream(request.options.seed, "generate");
    text->stream = TextStream(request.options.stop);
    text->end_id = request.options.end_id.value_or(tokenizer_ ? tokenizer_->eos_id().value_or(-1) : -1);
    text->asked = std::move(request);
    text->done = budget == 0;
    running_.push_back(std::move(text));
    waiting_.pop_front();
  }
}

void Engine::take_token(Text& text, const float* logits, int64_t vocab) {
  if (text.result.ids.empty()) {
    text.result.prefill_seconds = seconds_since(text.start);
    text.start = Clock::now();
  }
  std::vector<float> row(logits, logits + (tokenizer_ ? std::min(vocab, tokenizer_->vocab_size()) : vocab));
  const auto& how = text.asked.options;
  const int32_t id = sample_token(row, text.seen, how.sampling, text.random.uniform(text.result.ids.size()));
  text.result.ids.push_back(id);
  const bool ends = !how.ignore_eos && id == text.end_id;
  if (tokenizer_ && !ends) text.result.text += text.stream.push(added_bytes(*tokenizer_, text.seen, id));
  text.seen.push_back(id);
  if (ends) text.result.finish_reason = "eos";
  else if (text.stream.stopped()) text.result.finish_reason = "stop";
  text.done = ends || text.stream.stopped() || static_cast<int64_t>(text.result.ids.size()) >= text.budget;
}

bool Engine::step(const Done& done) {
  const EvalMode eval_mode(model_);
  const ComputeScope compute(options_.compute);
  admit();
  if (running_.empty()) return false;
  const auto start = Clock::now();
  std::vector<PagedChunk> chunks;
  std::vector<Text*> in_call;
  int64_t room = options_.step_tokens;
  for (const bool decoding : {true, false})
    for (const auto& text : running_) {
      if (text->done || room == 0 || (text->fed >= text->asked.prompt.size()) != decoding) continue;
      const auto ids = text->next(room);
      chunks.push_back({text->sequence, ids});
      in_call.push_back(text.get());
      room -= static_cast<int64_t>(ids.size());
    }
  if (!chunks.empty()) {
    cache_->begin(chunks);
    ForwardOptions how;
    how.paged = cache_.get();
    const auto hidden = model_.forward({}, how).hidden;  // [1, T, d]
    cache_->finish();
    std::vector<int64_t> rows;
    std::vector<Text*> ready;
    for (size_t i = 0; i < chunks.size(); ++i) {
      in_call[i]->fed += chunks[i].ids.size();
      if (in_call[i]->fed < in_call[i]->seen.size()) continue;  // more of the prompt is to come
      rows.push_back(cache_->last_rows().data_ptr<int64_t>()[i]);
      ready.push_back(in_call[i]);
    }
    if (!rows.empty()) {
      const auto logits = model_.logits(hidden[0].index_select(0, torch::tensor(rows, torch::kInt64))).to(torch::kFloat32).contiguous();
      for (size_t i = 0; i < ready.size(); ++i) take_token(*ready[i], logits.data_ptr<float>() + static_cast<int64_t>(i) * logits.size(1), logits.size(1));
    }
    counts_.calls += 1;
    counts_.tokens += options_.step_tokens - room;
    counts_.most_at_once = std::max(counts_.most_at_once, static_cast<int64_t>(chunks.size()));
  }
  counts_.seconds += seconds_since(start);
  for (auto i = running_.begin(); i != running_.end();) {
    Text& text = **i;
    if (!text.done) {
      ++i;
      continue;
    }
    text.result.text += text.stream.finish();
    text.result.decode_seconds = seconds_since(text.start);
    cache_->close(text.sequence);
    if (done) done(text.request, text.result);
    i = running_.erase(i);
  }
  return !running_.empty() || !waiting_.empty();
}

}  // namespace switchyard
