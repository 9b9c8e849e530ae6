// trace.json: what the experts of a trained model do with validation text, for the report (report/run_files.h reads it).
//
//   layers       the MoE layers
//   categories   share of each expert in the choices of the tokens of each domain, per layer; a row sums to 1
//   passage      excerpts of validation text, one per domain, token by token: chosen experts and their weights
//   similarity   cosine between the output weights of experts, per layer
#pragma once

#include "core/ops.h"
#include "data/token_file.h"
#include "io/tokenizer/tokenizer.h"
#include "switchyard/language_model.h"

#include <nlohmann/json.hpp>

namespace switchyard {

struct TraceOptions {
  int64_t seq_len = 256;
  int64_t passage_tokens = 400;     // about so many, shared by the domains
  int64_t category_tokens = 50000;  // about so many, spread over the text
  bool cross_documents = false;
  ComputeType compute = ComputeType::float32;
};

// Reads the validation split. A dense model gives empty lists.
[[nodiscard]] nlohmann::ordered_json trace_routing(LanguageModel& model, const Tokenizer& tokenizer, const data::TokenFile& tokens,
                                                   const TraceOptions& options);

}  // namespace switchyard
