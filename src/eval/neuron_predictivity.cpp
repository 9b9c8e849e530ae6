#include "eval/neuron_predictivity.h"

#include "switchyard/error.h"
#include "switchyard/random.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace switchyard {
namespace {

// The first `count` of a random order of 0 .. size - 1.
void draw_group(const RandomStream& stream, int64_t count, std::vector<int64_t>& order) {
  std::iota(order.begin(), order.end(), 0);
  for (int64_t i = 0; i < count; ++i) {
    const auto rest = static_cast<uint64_t>(static_cast<int64_t>(order.size()) - i);
    std::swap(order[static_cast<size_t>(i)], order[static_cast<size_t>(i) + stream.below(static_cast<uint64_t>(i), rest)]);
  }
}

// Means over the neurons order[0 .. count - 1], for every label.
std::vector<double> mean_of(std::span<const double> pred, std::span<const int64_t> group, int64_t num_labels) {
  std::vector<double> out(static_cast<size_t>(num_labels));
  for (const int64_t n : group)
    for (size_t s = 0; s < out.size(); ++s) out[s] += pred[static_cast<size_t>(n) * out.size() + s];
  for (double& value : out) value /= static_cast<double>(group.size());
  return out;
}

}  // namespace

double average_precision(std::span<const float> given, std::span<const uint8_t> labels) {
  std::vector<float> values(given.begin(), given.end());
  for (float& value : values)
    if (std::isnan(value)) value = -std::numeric_limits<float>::infinity();
  if (values.size() != labels.size()) fail(ErrorKind::usage, "average precision: {} values, {} labels", values.size(), labels.size());
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] > values[b]; });
  const auto positives = static_cast<double>(std::count_if(labels.begin(), labels.end(), [](uint8_t l) { return l != 0; }));
  if (positives == 0) return 0;
  double sum = 0, found = 0, before = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    found += labels[order[i]] != 0;
    if (i + 1 < order.size() && values[order[i + 1]] == values[order[i]]) continue;
    sum += (found - before) / positives * found / static_cast<double>(i + 1);
    before = found;
  }
  return sum;
}

std::vector<double> predictivity(std::span<const float> values, std::span<const int32_t> labels, int64_t neurons, int64_t num_labels) {
  const size_t tokens = labels.size(), width = static_cast<size_t>(neurons), classes = static_cast<size_t>(num_labels);
  if (values.size() != tokens * width) fail(ErrorKind::usage, "predictivity: {} values, expected {} tokens x {} neurons", values.size(), tokens, neurons);
  std::vector<std::vector<uint8_t>> is(classes, std::vector<uint8_t>(tokens));
  for (size_t t = 0; t < tokens; ++t) {
    if (labels[t] < 0 || labels[t] >= num_labels) fail(ErrorKind::usage, "predictivity: label {} of token {}, expected 0 to {}", labels[t], t, num_labels - 1);
    is[static_cast<size_t>(labels[t])][t] = 1;
  }
  std::vector<double> out(width * classes);
#pragma omp parallel for schedule(dynamic)
  for (int64_t n = 0; n < neurons; ++n) {
    std::vector<float> column(tokens);
    for (size_t t = 0; t < tokens; ++t) column[t] = values[t * width + static_cast<size_t>(n)];
    for (size_t s = 0; s < classes; ++s) out[static_cast<size_t>(n) * classes + s] = average_precision(column, is[s]);
  }
  return out;
}

std::vector<ExpertFunction> expert_functions(std::span<const double> pred, int64_t experts, int64_t num_labels, int64_t draws) {
  const auto neurons = static_cast<int64_t>(pred.size()) / std::max<int64_t>(num_labels, 1);
  if (experts < 1 || num_labels < 1 || draws < 1 || neurons % experts != 0 || neurons == 0 || neurons * num_labels != static_cast<int64_t>(pred.size()))
    fail(ErrorKind::usage, "expert functions: {} values for {} experts and {} labels", pred.size(), experts, num_labels);
  const int64_t width = neurons / experts;
  std::vector<int64_t> order(static_cast<size_t>(neurons));
  std::vector<std::vector<double>> chance(static_cast<size_t>(num_labels));
  for (int64_t d = 0; d < draws; ++d) {
    draw_group(RandomStream(0, "random groups of neurons").at("draw", static_cast<uint64_t>(d)), width, order);
    const auto mean = mean_of(pred, std::span(order).first(static_cast<size_t>(width)), num_labels);
    for (size_t s = 0; s < mean.size(); ++s) chance[s].push_back(mean[s]);
  }
  for (auto& values : chance) std::sort(values.begin(), values.end());
  std::vector<ExpertFunction> out;
  std::iota(order.begin(), order.end(), 0);
  for (int64_t e = 0; e < experts; ++e) {
    const auto mean = mean_of(pred, std::span(order).subspan(static_cast<size_t>(e * width), static_cast<size_t>(width)), num_labels);
    const auto best = std::max_element(mean.begin(), mean.end());
    const auto label = best - mean.begin();
    const auto& of_label = chance[static_cast<size_t>(label)];
    const double bound = of_label[static_cast<size_t>(static_cast<double>(draws - 1) * 0.95)];
    // Sums of the same numbers in another order differ in their last bits: one expert, all neurons, is no better than chance.
    out.push_back({label, *best, experts == 1 ? *best : bound});
  }
  return out;
}

}  // namespace switchyard
