#include "infer/generate.h"

#include "base/clock.h"
#include "core/ops.h"
#include "core/paged_cache.h"
#include "infer/engine.h"
#include "infer/text_stream.h"
#include "io/tokenizer/tokenizer.h"
#include "models/eval_mode.h"
#include "models/position_tables.h"
#include "switchyard/error.h"
#include "switchyard/random.h"

#include <limits>
#include <optional>

namespace switchyard {
namespace {

// Distances between tokens have no end; positions do.
int64_t longest(const ModelSpec& spec) { return has_distances(spec) ? std::numeric_limits<int64_t>::max() : spec.max_positions; }

void check_source(const ModelSpec& spec, const GenerateOptions& options) {
  if (spec.encoder && options.source.empty()) fail(ErrorKind::usage, "the model has an encoder, which needs a source beside the prompt, and there is none");
  if (!spec.encoder && !options.source.empty()) fail(ErrorKind::usage, "a source was given, but the model has no encoder that could read it");
  if (spec.encoder && options.contrast.beta != 0) fail(ErrorKind::unsupported, "self-contrast works with models of one stack");
  if (static_cast<int64_t>(options.source.size()) > longest(spec))
    fail(ErrorKind::usage, "the source has {} tokens, but the model sees at most {} (max_positions)", options.source.size(), spec.max_positions);
}

void check_prompt(const ModelSpec& spec, std::span<const int32_t> prompt) {
  if (!spec.causal) fail(ErrorKind::unsupported, "the model fills in masked tokens (model.causal = false): it cannot continue a text");
  const auto length = static_cast<int64_t>(prompt.size());
  if (length == 0) fail(ErrorKind::usage, "the prompt is empty; expected at least one token");
  if (length >= longest(spec))
    fail(ErrorKind::usage, "the prompt has {} tokens, but the model sees at most {} (max_positions) with the new ones; shorten it", length, spec.max_positions);
  for (size_t i = 0; i < prompt.size(); ++i)
    if (prompt[i] < 0 || prompt[i] >= spec.vocab_size)
      fail(ErrorKind::usage, "token {} of the prompt has the id {}, outside the vocabulary of {}", i, prompt[i], spec.vocab_size);
}

// Runs `ids` behind what the cache holds; what comes out for each.
torch::Tensor run_ids(LanguageModel& model, std::span<const int32_t> ids, const GenerateOptions& how, KvCache& cache) {
  const auto row_of = [](std::span<const int32_t> x) { return torch::tensor(std::vector<int64_t>(x.begin(), x.end()), torch::kInt64).view({1, -1}); };
  TokenBatch batch;
  batch.input_ids = row_of(ids);
  if (how.tag >= 0) batch.tags = torch::full_like(batch.input_ids, how.tag);
  if (!how.source.empty()) batch.source_ids = row_of(how.source);
  ForwardOptions options;
  options.cache = &cache;
  options.first_token = cache.length;
  return model.forward(batch, options).hidden;  // [1, S, d]
}

// Runs `ids` behind what the sequence of a paged cache holds.
torch::Tensor run_ids(LanguageModel& model, std::span<const int32_t> ids, PagedCache& cache, int64_t sequence) {
  cache.begin({{sequence, ids}});
  ForwardOptions options;
  options.paged = &cache;
  auto hidden = model.forward({}, options).hidden;
  cache.finish();
  return hidden;
}

// A prompt may go through the model in pieces if no token's place among the others matters.
bool goes_in_pieces(LanguageModel& model) {
  for (const auto& [layer, moe] : model.moe_layers())
    if (moe->causality() != Causality::strict) return false;
  return true;
}

// The logits behind `ids`, which run(piece) takes in pieces: what is alive at once does not grow with a prompt.
template <class Run>
std::vector<float> next_logits(LanguageModel& model, std::span<const int32_t> ids, int64_t chunk, Run run) {
  torch::Tensor hidden;
  const auto size = static_cast<size_t>(goes_in_pieces(model) ? chunk : static_cast<int64_t>(ids.size()));
  for (size_t first = 0; first < ids.size(); first += size) hidden = run(ids.subspan(first, std::min(size, ids.size() - first)));
  const auto row = model.logits(hidden.select(1, hidden.size(1) - 1)).to(torch::kCPU, torch::kFloat32).contiguous();  // [1, V]
  return {row.data_ptr<float>(), row.data_ptr<float>() + row.numel()};
}

// Logits of the next token, call after call; with a second pass when the options ask for contrast.
class LogitSource {
 public:
  LogitSource(LanguageModel& model, const GenerateOptions& options, int64_t room)
      : model_(model), options_(options) {
    if (options.kv_cache == "float32") {
      cache_.emplace(model.spec(), 1, room, model.device());
    } else {
      if (options.contrast.beta != 0) fail(ErrorKind::unsupported, "self-contrast keeps two caches in float32; it cannot have kv_cache = {}", options.kv_cache);
      paged_.emplace(paged_layers(model.spec()), kernels::parse_kv_format(options.kv_cache), room);
      sequence_ = paged_->open(room);
    }
    if (options.contrast.beta == 0) return;
    weak_ = with_ranks(model, options.contrast.ranks);
    weak_cache_.emplace(model.spec(), 1, room, model.device());
  }

  // Of the token behind `ids`, which come behind those of earlier calls.
  std::vector<float> next(std::span<const int32_t> ids) {
    const auto with = [&](LanguageModel& model, KvCache& cache) {
      return next_logits(model, ids, options_.prefill_chunk, [&](auto piece) { return run_ids(model, piece, options_, cache); });
    };
    if (paged_) return next_logits(model_, ids, options_.prefill_chunk, [&](auto piece) { return run_ids(model_, piece, *paged_, sequence_); });
    auto strong = with(model_, *cache_);
    if (!weak_) return strong;
    return contrast(strong, with(*weak_, *weak_cache_), options_.contrast.beta, options_.contrast.alpha);
  }

 private:
  LanguageModel& model_;
  const GenerateOptions& options_;
  std::optional<KvCache> cache_;
  std::optional<PagedCache> paged_;
  int64_t sequence_ = 0;
  std::shared_ptr<LanguageModel> weak_;
  std::optional<KvCache> weak_cache_;
};

}  // namespace

std::string added_bytes(const Tokenizer& tokenizer, std::span<const int32_t> before, int32_t id) {
  constexpr size_t kContext = 4;  // for decoders that look at their neighbours
  std::vector<int32_t> window(before.end() - static_cast<std::ptrdiff_t>(std::min(kContext, before.size())), before.end());
  const std::string old_text = tokenizer.decode(window);
  window.push_back(id);
  const std::string new_text = tokenizer.decode(window);
  return new_text.size() >= old_text.size() ? new_text.substr(old_text.size()) : "";
}

void check_request(const ModelSpec& spec, const Tokenizer* tokenizer, std::span<const int32_t> prompt, const GenerateOptions& options) {
  check_sampling(options.sampling);
  check_contrast(options.contrast);
  check_source(spec, options);
  check_prompt(spec, prompt);
  if (options.max_tokens < 0) fail(ErrorKind::usage, "max_tokens = {}: expected 0 or a positive number", options.max_tokens);
  (void)kernels::parse_kv_format(options.kv_cache);
  if (options.prefill_chunk < 1) fail(ErrorKind::usage, "prefill_chunk = {}: expected at least 1", options.prefill_chunk);
  if (!tokenizer && !options.stop.empty()) fail(ErrorKind::usage, "stop strings need a tokenizer, and the model has none");
}

int64_t token_budget(const ModelSpec& spec, std::span<const int32_t> prompt, const GenerateOptions& options) {
  return std::min(options.max_tokens, longest(spec) - static_cast<int64_t>(prompt.size()));
}

Generated generate(LanguageModel& model, const Tokenizer* tokenizer, std::span<const int32_t> prompt, const GenerateOptions& options,
                   const TokenSink& sink) {
  check_request(model.spec(), tokenizer, prompt, options);
  const EvalMode eval_mode(model);
  const ComputeScope compute(options.compute);
  const auto prompt_length = static_cast<int64_t>(prompt.size());
  const int64_t budget = token_budget(model.spec(), prompt, options);
  const RandomStream random = RandomStream(options.seed, "generate");
  const int32_t eos = options.end_id.value_or(tokenizer ? tokenizer->eos_id().value_or(-1) : -1);  // no token has the id -1

  Generated out{{}, "", "length", 0, 0};
  TextStream stream(options.stop);
  LogitSource source(model, options, prompt_length + budget);
  std::vector<int32_t> seen(prompt.begin(), prompt.end());
  auto start = Clock::now();
  for (int64_t i = 0; i < budget; ++i) {
    auto logits = source.next(i == 0 ? prompt : std::span<const int32_t>(seen).last(1));
    if (i == 0) {
      out.prefill_seconds = seconds_since(start);
      start = Clock::now();
    }
    // Embeddings are often padded to a round size: rows behind the tokenizer's vocabulary stand for no text.
    if (tokenizer) logits.resize(std::min(logits.size(), static_cast<size_t>(tokenizer->vocab_size())));
    const int32_t id = sample_token(logits, seen, options.sampling, random.uniform(static_cast<uint64_t>(i)));
    out.ids.push_back(id);
    const bool ends = !options.ignore_eos && id == eos;
    const std::string text = tokenizer && !ends ? stream.push(added_bytes(*tokenizer, seen, id)) : "";
    seen.push_back(id);
    out.text += text;
    const bool go_on = !sink || sink(id, text);
    if (ends) out.finish_reason = "eos";
    else if (stream.stopped()) out.finish_reason = "stop";
    else if (!go_on) out.finish_reason = "cancelled";
    if (ends || stream.stopped() || !go_on) break;
  }
  out.decode_seconds = seconds_since(start);
  out.text += stream.finish();
  return out;
}

std::vector<int32_t> prompt_ids(const Tokenizer& tokenizer, std::string_view text) {
  auto ids = tokenizer.encode(text, /*add_template=*/true);
  if (!ids.empty()) return ids;
  if (const auto start = tokenizer.bos_id() ? tokenizer.bos_id() : tokenizer.eos_id()) return {*start};
  fail(ErrorKind::usage, "an empty prompt needs a token that starts a document, and the tokenizer has none");
}

}  // namespace switchyard
