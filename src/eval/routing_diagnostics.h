// What does routing follow? Measures over recorded choices: one label (token id, position, domain) and one expert per token.
// Source: OpenMoE, arXiv:2402.01739 section 4 (context-independent specialisation, early routing learning, drop towards the end).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace switchyard {

// I(label; expert) / H(expert): 1 when the label decides the expert, 0 when it says nothing; 0 when only one expert is used.
// A finite text makes it too large, so that a value means something only beside `by_chance`.
struct Specialisation {
  double share = 0;      // of the labels as they are
  double by_chance = 0;  // of the same labels in a shuffled order (fixed seed)
};
// Experts below 0 are left out. Labels are 0 or more. Throws Error{usage} when the lists differ in length.
[[nodiscard]] Specialisation specialisation(std::span<const int32_t> labels, std::span<const int32_t> experts);

// Share of labels whose most frequent expert (of equal counts the lower one) is the same in both lists, over the labels that
// occur in both with at least `least` choices.
[[nodiscard]] double same_majority(std::span<const int32_t> labels_before, std::span<const int32_t> experts_before,
                                   std::span<const int32_t> labels_after, std::span<const int32_t> experts_after, int64_t least = 1);

// Dropped share per bucket of positions: bucket b holds positions [b * width, (b + 1) * width). NaN for a bucket without choices.
[[nodiscard]] std::vector<double> drop_curve(std::span<const int32_t> positions, std::span<const uint8_t> dropped, int64_t buckets, int64_t width);

}  // namespace switchyard
