#include "kernels/balanced_assignment.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <queue>
#include <utility>

namespace switchyard::kernels {
namespace {

constexpr double kNever = -std::numeric_limits<double>::infinity();

// Optimal for the tokens placed so far; place() adds one more and keeps it so. Experts have prices: every token sits where its
// affinity minus the price is largest, and an expert with room is free of charge. That proves the placement optimal, and it
// makes every move a cost >= 0, so that the best path is found from its beginning (Dijkstra with potentials).
class ExactAssignment {
 public:
  explicit ExactAssignment(const AssignmentProblem& p)
      : p_(p), n_(static_cast<size_t>(p.experts)), expert_of_(static_cast<size_t>(p.tokens), -1), load_(n_, 0), price_(n_, 0), moves_(n_ * n_),
        gain_(n_ * n_, kNever), listed_(n_, false), changed_(n_, false), done_(n_), distance_(n_), from_(n_) {}

  void place(int64_t token) {
    size_t end = find_path(token);
    // From its end: each expert takes the best mover of the one before it.
    for (; from_[end] != n_; end = from_[end]) {
      const size_t before = from_[end];
      const int64_t mover = best_move(before, end).second;
      --load_[before];
      changed_[before] = true;
      put(mover, end);
    }
    put(token, end);
  }

  [[nodiscard]] std::vector<int64_t> result() && { return std::move(expert_of_); }

 private:
  using Move = std::pair<double, int64_t>;  // gain of moving, minus the token: of equal gains the lower token is on top

  // The end of the cheapest path of moves that begins with `token` and ends at an expert with room; from_ leads back along it.
  // A full expert passes a token on. Of equal costs the lower expert wins.
  size_t find_path(int64_t token) {
    const auto surplus = [&](size_t e) { return p_.at(token, static_cast<int64_t>(e)) - price_[e]; };
    double best = kNever;
    for (size_t e = 0; e < n_; ++e) best = std::max(best, surplus(e));
    for (size_t e = 0; e < n_; ++e) distance_[e] = best - surplus(e);
    std::fill(from_.begin(), from_.end(), n_);
    std::fill(done_.begin(), done_.end(), false);
    size_t i = nearest();
    for (; load_[i] >= p_.capacity; i = nearest()) pass_on(i);
    for (size_t e = 0; e < n_; ++e)
      if (done_[e]) price_[e] += distance_[i] - distance_[e];
    return i;
  }

  size_t nearest() {
    size_t found = n_;
    for (size_t e = 0; e < n_; ++e)
      if (!done_[e] && (found == n_ || distance_[e] < distance_[found])) found = e;
    done_[found] = true;
    return found;
  }

  void pass_on(size_t i) {
    if (changed_[i]) refresh(i);
    for (size_t j = 0; j < n_; ++j) {
      const double cost = std::max(0.0, price_[j] - price_[i] - gain_[i * n_ + j]);  // below 0 by rounding alone
      if (done_[j] || !(distance_[i] + cost < distance_[j])) continue;
      distance_[j] = distance_[i] + cost;
      from_[j] = i;
    }
  }

  void refresh(size_t i) {
    for (size_t j = 0; j < n_; ++j)
      if (i != j) gain_[i * n_ + j] = best_move(i, j).first;
    changed_[i] = false;
  }

  // {gain, token} of the best move from the full expert i to j.
  Move best_move(size_t i, size_t j) {
    auto& heap = moves_[i * n_ + j];
    while (!heap.empty() && expert_of_[static_cast<size_t>(-heap.top().second)] != static_cast<int64_t>(i)) heap.pop();
    return heap.empty() ? Move{kNever, -1} : Move{heap.top().first, -heap.top().second};
  }

  [[nodiscard]] Move move_of(int64_t token, size_t e, size_t j) const {
    return {p_.at(token, static_cast<int64_t>(j)) - p_.at(token, static_cast<int64_t>(e)), -token};
  }

  // Moves matter once an expert is full. From then on it stays so: who leaves is replaced at once.
  void put(int64_t token, size_t e) {
    expert_of_[static_cast<size_t>(token)] = static_cast<int64_t>(e);
    if (++load_[e] < p_.capacity) return;
    changed_[e] = true;
    if (!listed_[e]) return list_moves(e);
    for (size_t j = 0; j < n_; ++j)
      if (j != e) moves_[e * n_ + j].push(move_of(token, e, j));
  }

  void list_moves(size_t e) {
    listed_[e] = true;
    std::vector<int64_t> members;
    for (size_t t = 0; t < expert_of_.size(); ++t)
      if (expert_of_[t] == static_cast<int64_t>(e)) members.push_back(static_cast<int64_t>(t));
    for (size_t j = 0; j < n_; ++j) {
      if (j == e) continue;
      std::vector<Move> moves;
      for (const int64_t t : members) moves.push_back(move_of(t, e, j));
      moves_[e * n_ + j] = std::priority_queue<Move>(std::less<Move>(), std::move(moves));
    }
  }

  const AssignmentProblem& p_;
  size_t n_;
  std::vector<int64_t> expert_of_, load_;
  std::vector<double> price_;
  std::vector<std::priority_queue<Move>> moves_;  // [experts, experts]; tokens that have left stay until they are on top
  std::vector<double> gain_;                      // [experts, experts]: gains of the best moves from full experts, up to date unless changed
  std::vector<char> listed_, changed_;            // are all members of the expert in its heaps, has its row of gains changed
  std::vector<char> done_;
  std::vector<double> distance_;
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
