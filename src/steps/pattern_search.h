// Random search for a block: lists of attention, dense networks and experts with widths and activations of their own, repeated to
// depth, none dearer per token than the model of the recipe. All programs get the same training; the lowest validation loss wins.
//
// Source: Brainformers, arXiv:2306.00008, section 3. Departs from it: draws at random instead of evolving a population, and bounds the
// FLOPs of a token instead of measured step time, so that a search is a function of its seed.
#pragma once

#include "steps/train.h"

#include <vector>

namespace switchyard {

struct SearchOptions {
  int64_t programs = 12, steps = 200;
  uint64_t seed = 1;
  std::filesystem::path out = {};  // one run folder per program: program-0 is the recipe as it stands, program-1 ... are drawn
};

struct SearchedProgram {
  Recipe recipe;
  ParameterCount size;
  double loss = 0;  // on the validation text, nats per token
};

// One list of 2 to 6 parts with at least one attention and one layer of experts, and how often it is repeated (num_layers). A pure
// function of (model, seed, number). Throws Error{config} when none of many draws fits into the FLOPs of `model`, which has experts.
[[nodiscard]] ModelSpec draw_program(const ModelSpec& model, uint64_t seed, int64_t number);

// Best first; equal losses in the order of their numbers. Finished runs in `out` stay, so that the same search goes on where it was
// interrupted. Throws Error{config} for a recipe without experts or without validation text.
[[nodiscard]] std::vector<SearchedProgram> search_programs(const Recipe& recipe, const SearchOptions& options, TrainObserver& observer);

}  // namespace switchyard
