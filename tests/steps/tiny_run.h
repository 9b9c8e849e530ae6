// A training run that takes a fraction of a second: a few kilobytes of text, a byte tokenizer, a small sparse model with
// everything random switched on (dropout, jitter).
#pragma once

#include "steps/train.h"
#include "test_files.h"

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace switchyard::testing {

// Sentences of a small vocabulary in a fixed pseudo-random order: text with structure that a tiny model learns quickly.
inline std::string tiny_text(int64_t sentences) {
  const char* who[] = {"the cat", "a dog", "the old man", "my aunt"};
  const char* does[] = {" sees ", " likes ", " paints "};
  const char* what[] = {"a tree", "the sea", "nothing", "two small birds", "the cat"};
  const RandomStream random(7, "tiny text");
  std::string out;
  for (int64_t i = 0; i < sentences; ++i) {
    const auto at = static_cast<uint64_t>(3 * i);
    out += who[random.below(at, 4)];
    out += does[random.below(at + 1, 3)];
    out += what[random.below(at + 2, 5)];
    out += ".\n";
  }
  return out;
}

inline void write_text(const std::filesystem::path& path, const std::string& text) {
  OutputFile file(path, OutputFile::Mode::create);
  file.write(std::string_view(text));
  file.close();
}

inline Recipe tiny_recipe(const std::filesystem::path& text) {
  Recipe recipe;
  recipe.name = "tiny";
  recipe.seed = 3;
  recipe.data.path = text.string();
  recipe.tokenizer.kind = "byte";
  recipe.model = {.d_model = 16, .num_layers = 2, .num_heads = 2, .d_ff = 32, .max_positions = 32, .dropout = 0.1, .moe = MoESpec{}};
  recipe.model.moe->num_experts = 4;
  recipe.model.moe->d_expert = 16;
  recipe.model.moe->gate = {"top_k", {{"k", 2}, {"jitter_eps", 0.01}}};
  recipe.model.moe->losses = {{"load_balance", {{"weight", 0.01}}}, {"router_z", {{"weight", 0.001}}}};
  recipe.train = {.steps = 12, .batch_size = 4, .seq_len = 32, .micro_batch = 2, .compute = "float32", .log_every = 1,
                  .eval_every = 5, .eval_tokens = 256, .checkpoint_every = 4, .threads = 2};
  recipe.train.optimizer.lr = 1e-2;
  recipe.train.schedule.warmup_steps = 3;
  return recipe;
}

// Remembers everything that it sees.
struct Recorder : TrainObserver {
  void on_step(const StepMetrics& m) override { steps.push_back(m); }
  void on_eval(const EvalMetrics& m) override { evals.push_back(m); }
  void on_event(const EventMetrics& m) override { events.push_back(m); }
  std::vector<StepMetrics> steps;
  std::vector<EvalMetrics> evals;
  std::vector<EventMetrics> events;
};

// Lines of metrics.jsonl of one kind, without what depends on the clock.
inline std::vector<nlohmann::json> timeless_lines(const std::filesystem::path& file, const std::string& kind) {
  std::vector<nlohmann::json> out;
  const std::string text = read_text_file(file);
  for (size_t begin = 0; begin < text.size(); begin = text.find('\n', begin) + 1) {
    auto line = nlohmann::json::parse(text.substr(begin, text.find('\n', begin) - begin));
    if (line.at("kind") != kind) continue;
    line.erase("seconds");
    line.erase("tokens_per_s");
    out.push_back(std::move(line));
  }
  return out;
}

}  // namespace switchyard::testing
