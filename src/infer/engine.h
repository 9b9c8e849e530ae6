// Many texts at once: every step takes the next token of each running text and a piece of the prompts that wait, in one call
// of the model, so that experts read their weights once for all of them (continuous batching, Yu et al., OSDI 2022; prefill in
// pieces, arXiv:2308.16369). Keys and values lie in pages (core/paged_cache.h).
//
// A text does not depend on the others: with the same request it is the same alone and in company, up to what the gate makes of
// tokens that share a call (a capacity that drops).
#pragma once

#include "core/ops.h"
#include "core/paged_cache.h"
#include "infer/generate.h"

#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

namespace switchyard {

struct EngineOptions {
  int64_t max_sequences = 16;        // that run at once
  int64_t step_tokens = 512;         // of a call: decoding texts first, then pieces of prompts
  int64_t cache_tokens = 0;          // room of the cache; 0 = max_sequences times the longest request
  std::string kv_cache = "float32";  // float32, bfloat16 or int8
  ComputeType compute = ComputeType::float32;
};

// What is asked: generate()'s options but for contrast, source and compute, which it does not read.
struct EngineRequest {
  std::vector<int32_t> prompt;
  GenerateOptions options;
};

struct EngineCounts {
  int64_t calls = 0, tokens = 0, most_at_once = 0;  // of the model; of prompts and texts; texts in one call
  double seconds = 0;
};

class Engine {
 public:
  // Throws Error{unsupported} for a model that cannot run on a paged cache (LanguageModel::paging_obstacle).
  Engine(LanguageModel& model, const Tokenizer* tokenizer, const EngineOptions& options);

  // Numbers the requests 0, 1, 2 ... Throws Error{usage} for what generate() would refuse.
  int64_t submit(EngineRequest request);

  // Called when a request is done, in the order in which they end.
  using Done = std::function<void(int64_t request, const Generated& result)>;
  // One call of the model; false when nothing is left to do.
  bool step(const Done& done);

  [[nodiscard]] const EngineCounts& counts() const { return counts_; }

 private:
  struct Text;
  void admit();
  void take_token(Text& text, const float* logits, int64_t vocab);

  LanguageModel& model_;
  const Tokenizer* tokenizer_;
  EngineOptions options_;
  std::unique_ptr<PagedCache> cache_;
  std::deque<std::pair<int64_t, EngineRequest>> waiting_;
  std::list<std::shared_ptr<Text>> running_;
  int64_t next_ = 0, longest_ = 0;
  EngineCounts counts_;
};

// The shape of the paged cache that a model needs.
[[nodiscard]] std::vector<PagedCache::LayerShape> paged_layers(const ModelSpec& spec);

}  // namespace switchyard
