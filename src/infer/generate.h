// Text from a language model, token by token.
#pragma once

#include "core/ops.h"
#include "infer/sampling.h"
#include "infer/self_contrast.h"
#include "switchyard/language_model.h"

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace switchyard {

class Tokenizer;

struct GenerateOptions {
  int64_t max_tokens = 256;
  SamplingOptions sampling;
  uint64_t seed = 0;               // names the random stream; the draw of token i is a pure function of (seed, i)
  std::vector<std::string> stop;   // the text ends before the first of them; needs a tokenizer
  bool ignore_eos = false;         // go on after the end-of-document token
  ContrastOptions contrast;        // a second pass through experts that routing passes over; costs as much again
  ComputeType compute = ComputeType::float32;
  int64_t prefill_chunk = 512;     // tokens of a prompt that go through the model at once
  std::string kv_cache = "float32";  // of keys and values: float32, or bfloat16 or int8 in pages (LanguageModel::paging_obstacle)
  int64_t tag = -1;  // domain, language or task of the text, for gates that ask; -1 = not known
  std::vector<int32_t> source;     // what a model with an encoder reads; the prompt is then how its decoder begins
  std::optional<int32_t> end_id;   // ends the text in place of the tokenizer's end token
};

struct Generated {
  std::vector<int32_t> ids;   // new tokens, without the prompt; an end token or the tokens of a stop string included
  std::string text;           // of them, as it was streamed; empty without a tokenizer
  std::string finish_reason;  // eos | stop | length (max_tokens, or the model's longest sequence) | cancelled
  double prefill_seconds = 0, decode_seconds = 0;
};

// Gets each new token and the text that may be shown since the last call (often empty). False ends the generation.
using TokenSink = std::function<bool(int32_t id, std::string_view text)>;

// Runs the prompt once and then one token at a time with a KvCache, in evaluation mode. `tokenizer` may be null: then there
// is no text, and no end token but end_id. Throws Error{usage} for an empty prompt, a prompt that is longer than the model's
// max_positions - 1, ids outside the vocabulary, a source that the model does not read or needs, and options out of range.
[[nodiscard]] Generated generate(LanguageModel& model, const Tokenizer* tokenizer, std::span<const int32_t> prompt,
                                 const GenerateOptions& options, const TokenSink& sink = {});

// What generate() checks before it starts, and the new tokens that a request may have.
void check_request(const ModelSpec& spec, const Tokenizer* tokenizer, std::span<const int32_t> prompt, const GenerateOptions& options);
[[nodiscard]] int64_t token_budget(const ModelSpec& spec, std::span<const int32_t> prompt, const GenerateOptions& options);
// Bytes that `id` adds behind `before`.
[[nodiscard]] std::string added_bytes(const Tokenizer& tokenizer, std::span<const int32_t> before, int32_t id);

// Ids of a prompt with the tokens that the tokenizer's template adds; an empty text gives the token that starts a document.
// Throws Error{usage} when there is none.
[[nodiscard]] std::vector<int32_t> prompt_ids(const Tokenizer& tokenizer, std::string_view text);

}  // namespace switchyard
