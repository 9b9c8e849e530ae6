// A recipe: everything that decides how a language model is trained, as one TOML file.
//
//   name = "sparse"          [data] path ...        [tokenizer] kind ...     [model] ... [model.moe] ...
//   seed = 1                 [train] steps ...      [sample] prompt ...     [bench] set ...
//
// Keys that are absent keep the defaults below; `show_recipe` prints the full form, which is stored with each run.
#pragma once

#include "data/split.h"
#include "steps/routing_bench.h"
#include "steps/train_options.h"
#include "switchyard/model_spec.h"

#include <filesystem>
#include <span>
#include <string>

namespace switchyard {

struct DataOptions {
  std::string path, order = "given";
  data::SplitOptions split;
  bool cross_documents = false;

  template <class V> void fields(V&& v) {
    v("path", path, "text file, folder, or JSONL of documents or conversations");
    v("order", order, "of the documents: given, or similar (neighbours are alike, for windows over document borders)");
    split.fields(v);
    v("cross_documents", cross_documents, "attention looks over document borders");
  }
};

struct TokenizerOptions {
  std::string kind = "bpe";
  int64_t vocab_size = 2048;
  std::string path;

  template <class V> void fields(V&& v) {
    v("kind", kind, "bpe (learnt from the training text), byte, or file");
    v("vocab_size", vocab_size, "bpe: size of the vocabulary");
    v("path", path, "file: a tokenizer.json, .model or .tiktoken, or a folder that holds one");
  }
};

// The text that is generated when training is done.
struct SampleOptions {
  std::string prompt;
  int64_t tokens = 200;
  double temperature = 0.8, top_p = 0.95;
  int64_t tag = -1;

  template <class V> void fields(V&& v) {
    v("prompt", prompt, "how the sample begins; empty = at the start of a document");
    v("tokens", tokens, "length of the sample");
    v("temperature", temperature, "0 = always the most probable token");
    v("top_p", top_p, "nucleus: smallest set of tokens with this probability");
    v("tag", tag, "number of its domain in alphabetical order, for gates that route by it; -1 = none");
  }
};

// The routing bench has sizes of its own: eight experts, 64 ids, eight tags. What a recipe ties to other ones stands here.
struct BenchOptions {
  int64_t tags = kBenchClusters;
  std::vector<std::string> set;

  template <class V> void fields(V&& v) {
    v("tags", tags, "routing bench: tags that its eight clusters are dealt to; a divisor of 8");
    v("set", set, "routing bench: keys of gate, capacity and losses that fit its sizes, as \"model.moe.gate.k=1\"");
  }
};

struct Recipe {
  std::string name;
  int64_t seed = 0;
  DataOptions data;
  TokenizerOptions tokenizer;
  ModelSpec model;
  TrainOptions train;
  SampleOptions sample = {};
  BenchOptions bench = {};

  template <class V> void fields(V&& v) {
    v("name", name, "name of the run; empty = name of the file");
    v("seed", seed, "of initial weights, order of the data, noise and dropout");
    v("data", data, "what is read");
    v("tokenizer", tokenizer, "how text becomes tokens");
    v("model", model, "what is trained");
    v("train", train, "how it is trained");
    v("sample", sample, "text generated at the end");
    v("bench", bench, "sizes of its gate on the routing bench (compare --task clusters)");
  }
};

// Reads and checks a recipe: types, names, ranges, the options of every plug-in. Relative paths in the file are relative to
// its folder; those in `overrides` ("train.steps=100") to the working directory. Throws Error{config} with file, line and
// column, or Error{io}.
[[nodiscard]] Recipe load_recipe(const std::filesystem::path& path, std::span<const std::string> overrides = {});

// The same for going on from the model in `init`: its [model] and [tokenizer] are the base, keys that the file states win.
[[nodiscard]] Recipe load_recipe_for(const std::filesystem::path& path, const std::filesystem::path& init,
                                     std::span<const std::string> overrides = {});

// The same from a tree, e.g. the one that a checkpoint keeps.
[[nodiscard]] Recipe recipe_from(ConfigNode root, std::span<const std::string> overrides = {});

// Throws Error{config} for values that make no sense together.
void check_recipe(const Recipe& recipe);

// Full form as TOML; load_recipe reads it back to an equal recipe.
[[nodiscard]] std::string show_recipe(const Recipe& recipe);

// Size of the vocabulary that the tokenizer will have; opens a tokenizer file, trains nothing.
[[nodiscard]] int64_t expected_vocab_size(const TokenizerOptions& options);

// Its MoE layers as they are on the routing bench: [model.moe], or gate and losses of the first mixture at a site, with what
// [bench] sets. Throws Error{config}.
[[nodiscard]] MoESpec bench_moe(const Recipe& recipe);

// The model with its vocabulary size, resolved.
[[nodiscard]] ModelSpec resolved_model(const Recipe& recipe);

}  // namespace switchyard
