// How well single neurons tell labels apart, and whether experts gather neurons of one function.
//
//   Pred(n, s) = average precision of neuron n's activation as a detector of label s
//
// An expert is functional for the label on which its neurons have the highest mean Pred, if that mean is above what groups of as
// many neurons drawn at random from the same layer reach. Source: Emergent Modularity, arXiv:2305.18390 section 4.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace switchyard {

// Sum over distinct values, from the highest, of precision times the step in recall; equal values count together, NaN is below all. 0 when no label is
// set. Throws Error{usage} when the lists differ in length.
[[nodiscard]] double average_precision(std::span<const float> values, std::span<const uint8_t> labels);

// values [tokens, neurons] row by row, labels [tokens] of 0 .. num_labels - 1 -> [neurons, num_labels] row by row.
[[nodiscard]] std::vector<double> predictivity(std::span<const float> values, std::span<const int32_t> labels, int64_t neurons, int64_t num_labels);

struct ExpertFunction {
  int64_t label = 0;    // on which its mean Pred is highest; ties: the lower one
  double pred = 0;      // that mean
  double by_chance = 0;  // 95 % of random groups stay at or below this, for the same label
  [[nodiscard]] bool functional() const { return pred > by_chance; }
};

// pred [neurons, num_labels] as above, the experts one after the other with neurons / experts neurons each. `draws` random groups
// (fixed seed). One expert is all neurons: it is never functional.
[[nodiscard]] std::vector<ExpertFunction> expert_functions(std::span<const double> pred, int64_t experts, int64_t num_labels, int64_t draws = 200);

}  // namespace switchyard
