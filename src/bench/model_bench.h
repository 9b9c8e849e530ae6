// Prefill and decoding of a whole model with random weights: what a model of this size costs here before anybody has trained it.
#pragma once

#include "switchyard/model_spec.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace switchyard {
class LanguageModel;
}

namespace switchyard::bench {

struct ModelBenchOptions {
  ModelSpec spec;
  std::string weights = "bfloat16";  // packed format of the large matrices
  int64_t prompt = 512, new_tokens = 16, turns = 5;
  int64_t sequences = 1;             // that are decoded at once
  std::string kv_cache = "float32";
  uint64_t seed = 0;
  bool libtorch = false;             // the same prefill in ATen operations and float32 as well: keep the model small
};

struct ModelBenchResult {
  double weight_bytes = 0;           // of all packed matrices
  double active_bytes = 0;           // of those that a token reads
  double prefill_tokens_per_s = 0, decode_tokens_per_s = 0;  // medians of the turns; of all sequences together
  double decode_gbps = 0;            // active bytes times tokens per second, for one sequence; 0 for several, which share experts
  double roof_gbps = 0;              // read bandwidth, measured between the turns
  double fraction_of_roof = 0;
  double torch_prefill_tokens_per_s = 0, ratio_libtorch = 0;
};

// A model with random weights whose large matrices exist only packed: memory for the packed form and one layer.
[[nodiscard]] std::shared_ptr<LanguageModel> random_packed_model(const ModelSpec& spec, const std::string& weights, uint64_t seed);

// `note` hears what is being done.
[[nodiscard]] ModelBenchResult bench_model(const ModelBenchOptions& options, const std::function<void(const std::string&)>& note = {});

}  // namespace switchyard::bench
