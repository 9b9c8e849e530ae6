// Balanced linear assignment: every token to one expert, no expert above its capacity, the sum of affinities as large as
// possible. Plain C++ without an instruction set of its own: the work is in heaps and pointers.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace switchyard::kernels {

// affinity [tokens, experts], finite; capacity * experts >= tokens. expert_of [tokens] is written.
struct AssignmentProblem {
  std::span<const float> affinity;
  int64_t tokens = 0, experts = 0, capacity = 0;

  [[nodiscard]] double at(int64_t token, int64_t expert) const { return affinity[static_cast<size_t>(token * experts + expert)]; }
};

// The optimum, by successive shortest paths: tokens come one by one, and each may push others along a path of experts. With
// a heap per pair of experts one token costs O(experts^2 + experts log tokens) (Ahuja, Magnanti, Orlin, "Network Flows", 9.7).
[[nodiscard]] std::vector<int64_t> assign_exactly(const AssignmentProblem& problem);

// Within tokens * epsilon of the optimum, by auction: unassigned tokens bid for the cheapest place of the expert that they
// value most (Bertsekas 1979; as in BASE layers, arXiv:2103.16716 section 3). Exact when epsilon is below 1 / tokens of the
// smallest gap between different totals.
[[nodiscard]] std::vector<int64_t> assign_by_auction(const AssignmentProblem& problem, double epsilon);

}  // namespace switchyard::kernels
