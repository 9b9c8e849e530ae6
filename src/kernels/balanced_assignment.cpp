#include "kernels/balanced_assignment.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <queue>
#include <utility>

namespace switchyard::kernels {
namespace {

constexpr double kNever = -std::numeric_limits<double>::infinity();

// Optimal for the tokens placed so far; place() adds one more and keeps it so.
class ExactAssignment {
 public:
  explicit ExactAssignment(const AssignmentProblem& p)
      : p_(p), n_(static_cast<size_t>(p.experts)), expert_of_(static_cast<size_t>(p.tokens), -1), load_(n_, 0), moves_(n_ * n_), gain_(n_), from_(n_) {}

  void place(int64_t token) {
    find_paths(token);
    size_t end = n_;
    for (size_t e = 0; e < n_; ++e)
      if (load_[e] < p_.capacity && (end == n_ || gain_[e] > gain_[end])) end = e;
    ++load_[end];
    // Along the path from its end: each expert takes the best mover of the one before it.
    for (; from_[end] != n_; end = from_[end]) put(best_move(from_[end], end).second, end);
    put(token, end);
  }

  [[nodiscard]] std::vector<int64_t> result() && { return std::move(expert_of_); }

 private:
  using Move = std::pair<double, int64_t>;  // gain of moving, minus the token: of equal gains the lower token is on top

  // Largest gain of a chain of moves that starts with `token` and leaves a place needed at e (Bellman-Ford: there is no
  // cycle of positive gain, since the placement is optimal).
  void find_paths(int64_t token) {
    std::fill(from_.begin(), from_.end(), n_);
    for (size_t e = 0; e < n_; ++e) gain_[e] = p_.at(token, static_cast<int64_t>(e));
    edges_.assign(n_ * n_, kNever);
    for (size_t i = 0; i < n_; ++i)
      if (load_[i] >= p_.capacity)
        for (size_t j = 0; j < n_; ++j)
          if (i != j) edges_[i * n_ + j] = best_move(i, j).first;
    bool changed = true;
    for (size_t round = 0; changed && round < n_; ++round) {
      changed = false;
      for (size_t i = 0; i < n_; ++i)
        for (size_t j = 0; j < n_; ++j)
          if (const double gain = gain_[i] + edges_[i * n_ + j]; gain > gain_[j] + kRounding * (1 + std::abs(gain)) && !leads_to(j, i)) {
            gain_[j] = gain;
            from_[j] = i;
            changed = true;
          }
    }
  }

  // Rounding may make a cycle of gain 0 look positive; a path must not bite its tail.
  [[nodiscard]] bool leads_to(size_t expert, size_t end) const {
    for (size_t e = end; e != n_; e = from_[e])
      if (e == expert) return true;
    return false;
  }

  // {gain, token} of the best move from expert i to j; {-inf, -1} when i is empty.
  Move best_move(size_t i, size_t j) {
    auto& heap = moves_[i * n_ + j];
    while (!heap.empty() && expert_of_[static_cast<size_t>(-heap.top().second)] != static_cast<int64_t>(i)) heap.pop();
    return heap.empty() ? Move{kNever, -1} : Move{heap.top().first, -heap.top().second};
  }

  void put(int64_t token, size_t e) {
    expert_of_[static_cast<size_t>(token)] = static_cast<int64_t>(e);
    for (size_t j = 0; j < n_; ++j)
      if (j != e) moves_[e * n_ + j].emplace(p_.at(token, static_cast<int64_t>(j)) - p_.at(token, static_cast<int64_t>(e)), -token);
  }

  static constexpr double kRounding = 1e-12;

  const AssignmentProblem& p_;
  size_t n_;
  std::vector<int64_t> expert_of_, load_;
  std::vector<std::priority_queue<Move>> moves_;  // [experts, experts]; tokens that have left stay until they are on top
  std::vector<double> gain_, edges_;
  std::vector<size_t> from_;
};

// Places of one expert, cheapest first.
struct Place {
  double price = 0;
  int64_t token = -1;
  bool operator<(const Place& other) const { return price > other.price || (price == other.price && token > other.token); }
};

}  // namespace

std::vector<int64_t> assign_exactly(const AssignmentProblem& problem) {
  ExactAssignment assignment(problem);
  for (int64_t t = 0; t < problem.tokens; ++t) assignment.place(t);
  return std::move(assignment).result();
}

std::vector<int64_t> assign_by_auction(const AssignmentProblem& p, double epsilon) {
  // Dummy tokens of affinity 0 fill the places that would stay empty: the guarantee needs every place taken.
  const int64_t all = p.capacity * p.experts;
  std::vector<int64_t> expert_of(static_cast<size_t>(all), -1);
  std::vector<std::priority_queue<Place>> places(static_cast<size_t>(p.experts));
  for (auto& heap : places)
    for (int64_t c = 0; c < p.capacity; ++c) heap.push({});
  std::queue<int64_t> waiting;
  for (int64_t t = 0; t < all; ++t) waiting.push(t);
  while (!waiting.empty()) {
    const int64_t t = waiting.front();
    waiting.pop();
    int64_t best = -1;
    double first = kNever, second = kNever;
    for (int64_t e = 0; e < p.experts; ++e) {
      auto& heap = places[static_cast<size_t>(e)];
      const double value = (t < p.tokens ? p.at(t, e) : 0.0) - heap.top().price;
      if (value > first) second = std::exchange(first, value), best = e;
      else if (value > second) second = value;
    }
    auto& heap = places[static_cast<size_t>(best)];
    // The runner-up may be the next place of the same expert.
    Place taken = heap.top();
    heap.pop();
    if (!heap.empty()) second = std::max(second, (t < p.tokens ? p.at(t, best) : 0.0) - heap.top().price);
    const double raise = second == kNever ? 0 : first - second;
    if (taken.token >= 0) waiting.push(taken.token);
    heap.push({taken.price + raise + epsilon, t});
    expert_of[static_cast<size_t>(t)] = best;
  }
  expert_of.resize(static_cast<size_t>(p.tokens));
  return expert_of;
}

}  // namespace switchyard::kernels
