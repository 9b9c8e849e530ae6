// The choices of a model over a text, layer by layer: what the diagnostics read.
#pragma once

#include "core/ops.h"
#include "data/token_file.h"
#include "switchyard/language_model.h"

#include <map>
#include <vector>

namespace switchyard {

// One entry per (token, choice) that wanted an expert.
struct RoutingRecord {
  std::vector<int32_t> token, position, domain;  // position in its document's segment; domain as TokenStream numbers them
  std::vector<int32_t> expert;
  std::vector<uint8_t> dropped;  // for lack of capacity
};

struct RecordOptions {
  int64_t seq_len = 256;
  int64_t max_tokens = 20000;  // about so many, in whole windows spread over the text
  bool cross_documents = false;
  double capacity_factor = 0;  // plan with this capacity factor; 0 = as the model has it for evaluation
  ComputeType compute = ComputeType::float32;
};

// MoE layer -> record, of the layers whose tokens choose experts; others are left out. In evaluation mode.
[[nodiscard]] std::map<int64_t, RoutingRecord> record_routing(LanguageModel& model, const data::TokenStream& text, const RecordOptions& options);

}  // namespace switchyard
