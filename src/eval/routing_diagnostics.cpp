#include "eval/routing_diagnostics.h"

#include "switchyard/error.h"
#include "switchyard/random.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <utility>

namespace switchyard {
namespace {

using Pairs = std::vector<std::pair<int32_t, int32_t>>;  // (label, expert)

double entropy(const std::map<int32_t, double>& counts, double total) {
  double h = 0;
  for (const auto& [value, n] : counts) h -= n / total * std::log(n / total);
  return h;
}

double share_of(const Pairs& pairs) {
  const auto total = static_cast<double>(pairs.size());
  std::map<int32_t, double> labels, experts;
  std::map<std::pair<int32_t, int32_t>, double> both;
  for (const auto& pair : pairs) labels[pair.first] += 1, experts[pair.second] += 1, both[pair] += 1;
  const double h = entropy(experts, total);
  if (h <= 0) return 0;
  double information = 0;
  for (const auto& [pair, n] : both) information += n / total * std::log(n * total / (labels[pair.first] * experts[pair.second]));
  return information / h;
}

void need_equal(size_t labels, size_t experts) {
  if (labels != experts) fail(ErrorKind::usage, "routing diagnostics: {} labels, {} experts; expected as many", labels, experts);
}

std::map<int32_t, std::map<int32_t, int64_t>> count_by_label(std::span<const int32_t> labels, std::span<const int32_t> experts) {
  need_equal(labels.size(), experts.size());
  std::map<int32_t, std::map<int32_t, int64_t>> out;
  for (size_t i = 0; i < labels.size(); ++i)
    if (experts[i] >= 0) ++out[labels[i]][experts[i]];
  return out;
}

struct Majority {
  int32_t expert = -1;
  int64_t choices = 0;
};

Majority majority(const std::map<int32_t, int64_t>& counts) {
  Majority out;
  int64_t most = 0;
  for (const auto& [expert, n] : counts) {
    out.choices += n;
    if (n > most) most = n, out.expert = expert;
  }
  return out;
}

}  // namespace

Specialisation specialisation(std::span<const int32_t> labels, std::span<const int32_t> experts) {
  need_equal(labels.size(), experts.size());
  Pairs pairs;
  for (size_t i = 0; i < labels.size(); ++i)
    if (experts[i] >= 0) pairs.emplace_back(labels[i], experts[i]);
  if (pairs.empty()) return {};
  Specialisation out{.share = share_of(pairs)};
  const RandomStream random(0, "shuffled labels");
  for (size_t i = pairs.size(); i > 1; --i) std::swap(pairs[i - 1].first, pairs[random.below(i, i)].first);
  out.by_chance = share_of(pairs);
  return out;
}

double same_majority(std::span<const int32_t> labels_before, std::span<const int32_t> experts_before, std::span<const int32_t> labels_after,
                     std::span<const int32_t> experts_after, int64_t least) {
  const auto before = count_by_label(labels_before, experts_before), after = count_by_label(labels_after, experts_after);
  int64_t same = 0, compared = 0;
  for (const auto& [label, counts] : before) {
    const auto later = after.find(label);
    if (later == after.end()) continue;
    const Majority a = majority(counts), b = majority(later->second);
    if (a.choices < least || b.choices < least) continue;
    ++compared;
    same += a.expert == b.expert;
  }
  return compared == 0 ? 0 : static_cast<double>(same) / static_cast<double>(compared);
}

std::vector<double> drop_curve(std::span<const int32_t> positions, std::span<const uint8_t> dropped, int64_t buckets, int64_t width) {
  need_equal(positions.size(), dropped.size());
  if (buckets < 1 || width < 1) fail(ErrorKind::usage, "drop curve: buckets = {}, width = {}, expected at least 1", buckets, width);
  std::vector<double> lost(static_cast<size_t>(buckets), 0), all = lost;
  for (size_t i = 0; i < positions.size(); ++i) {
    const int64_t b = positions[i] / width;
    if (positions[i] < 0 || b >= buckets) continue;
    all[static_cast<size_t>(b)] += 1;
    lost[static_cast<size_t>(b)] += dropped[i] != 0;
  }
  for (size_t b = 0; b < lost.size(); ++b) lost[b] = all[b] > 0 ? lost[b] / all[b] : std::numeric_limits<double>::quiet_NaN();
  return lost;
}

}  // namespace switchyard
