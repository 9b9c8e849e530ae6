// A made-up training run with realistic figures, for pictures and tests: seeded, the same on every machine.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace switchyard::report {

struct SampleRun {
  std::string name = "demo-sparse";
  uint64_t seed = 1;
  int64_t steps = 600, moe_layers = 4, num_experts = 8, top_k = 2;
  double final_loss = 2.06, seconds_per_step = 0.31;
  bool dense = false;  // no MoE layer, no trace
};

// Writes metrics.jsonl, run.json, trace.json and sample.txt. The passage comes from `corpus` (a text file).
void write_sample_run(const std::filesystem::path& dir, const SampleRun& sample, const std::filesystem::path& corpus);

}  // namespace switchyard::report
