// Figures of routing tables.
#pragma once

#include <vector>

namespace switchyard::report {

// Mutual information of category and expert in bits, with all categories weighted alike; share [C][E], rows sum to 1
// (rows that do not are scaled; empty and non-finite ones are left out). 0: the expert tells nothing of the category.
// min(log2 C, log2 E) at most. NaN without any row.
[[nodiscard]] double category_bits(const std::vector<std::vector<double>>& share);

// Largest absolute value off the diagonal; NaN for fewer than two experts.
[[nodiscard]] double largest_off_diagonal(const std::vector<std::vector<double>>& similarity);

}  // namespace switchyard::report
