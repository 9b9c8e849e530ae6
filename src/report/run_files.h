// The files of a training run, read for a report. Every file and every field may be absent: numbers are then NaN, counts
// -1, texts and lists empty. What is there must be well formed: otherwise Error{checkpoint} names file, line and key.
//
//   metrics.jsonl   one JSON object per line, kind = train | eval | event
//   run.json        what was run: recipe, command, model, dataset, final figures
//   trace.json      routing of validation text: categories, a passage, expert similarity
//   sample.txt      generated text
//   recipe.toml     the recipe in full form
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace switchyard::report {

struct AuxLoss {
  std::string name;
  double raw = 0, weighted = 0;
};

// One "train" line. Lists hold one value per MoE layer; `load` one share per expert and layer (a row sums to 1).
struct TrainRecord {
  int64_t step = 0;
  double loss = 0, lr = 0, grad_norm = 0, tokens = 0, tokens_per_s = 0, seconds = 0;
  std::vector<double> load_cv, load_cv_floor, dropped, entropy;
  std::vector<std::vector<double>> load;
  std::vector<AuxLoss> aux;
};

struct EvalRecord {
  int64_t step = 0;
  double loss = 0, loss_se = 0, perplexity = 0, bits_per_byte = 0, seconds = 0;
};

struct EventRecord {
  int64_t step = 0;
  std::string what;  // resume, best, interrupted
  double seconds = 0;
};

struct ModelPart {
  std::string part;
  double params = 0, active = 0;
};

using Facts = std::vector<std::pair<std::string, std::string>>;

struct RunInfo {
  std::string name, recipe, started, command, seed, machine;
  int64_t threads = -1;
  double params_total = 0, params_active = 0, flops_per_token = 0;
  std::vector<ModelPart> table;
  Facts dataset, final;  // dotted keys and values as text, in the order of the file
  [[nodiscard]] double final_number(const char* key) const;  // NaN when absent or no number
};

struct TraceLayer {
  int64_t layer = -1, num_experts = -1, top_k = -1;
};

// Chosen experts and their weights for every token of the passage, best first as written; expert -1 = no expert.
struct TokenRouting {
  std::vector<std::vector<int64_t>> experts;  // [T][k]
  std::vector<std::vector<double>> weights;   // [T][k]
};

// The passage may be made of several pieces of text; each begins at a token.
struct Excerpt {
  int64_t token = 0;
  std::string name;
};

struct Trace {
  std::vector<TraceLayer> layers;                                // MoE layers, first to last
  std::vector<std::string> category_names;                       // [C]
  std::vector<std::vector<std::vector<double>>> category_share;  // [layer][C][E]
  std::vector<std::string> tokens;                               // [T]
  std::vector<Excerpt> excerpts;                                 // tokens ascending; may be empty
  std::vector<TokenRouting> routing;                             // [layer]
  std::vector<std::vector<std::vector<double>>> similarity;      // [layer][E][E], cosine
};

struct RunFiles {
  std::string dir;
  std::vector<TrainRecord> train;  // steps ascending, each once
  std::vector<EvalRecord> evals;   // steps ascending, each once
  std::vector<EventRecord> events;
  std::optional<RunInfo> info;
  std::optional<Trace> trace;
  std::optional<std::string> sample, recipe;
  std::vector<std::string> notes;  // what a reader of the figures must know: lines skipped, steps run twice

  [[nodiscard]] std::string name() const;            // of run.json, else the folder's name
  [[nodiscard]] size_t num_moe_layers() const;       // by trace, else by the last train record that has any
  [[nodiscard]] std::string layer_name(size_t i) const;  // "layer 3" by trace, else "MoE layer 1" counted from 1
};

// Reads what is there. Steps that were run again after a resume replace the earlier ones, and their seconds go on from the
// point of the resume. An unfinished last line of metrics.jsonl (the writer was killed) is left out with a note.
// Throws Error{io} when `dir` is no directory or a file cannot be read, Error{checkpoint} for bad content.
[[nodiscard]] RunFiles read_run(const std::string& dir);

// trace.json alone. Sizes must agree with each other and every expert id with num_experts.
[[nodiscard]] Trace parse_trace(const std::string& text, const std::string& file);
[[nodiscard]] RunInfo parse_run_info(const std::string& text, const std::string& file);

}  // namespace switchyard::report
