#include "core/token_tables.h"

#include "base/files.h"
#include "switchyard/error.h"

#include <ATen/ATen.h>

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <numeric>
#include <string>
#include <string_view>

namespace switchyard::token_tables {
namespace {

constexpr uint32_t kOffset = 2166136261u, kPrime = 16777619u;

// 0 .. n-1 in random order.
std::vector<int64_t> shuffled(int64_t n, const RandomStream& stream) {
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  for (int64_t i = n - 1; i > 0; --i)
    std::swap(order[static_cast<size_t>(i)], order[stream.below(static_cast<uint64_t>(i), static_cast<uint64_t>(i) + 1)]);
  return order;
}

// Experts that may take `weight` without a load above the lightest one plus `bound`.
std::vector<int64_t> open_experts(const std::vector<double>& load, double weight, double bound) {
  const double lightest = *std::min_element(load.begin(), load.end());
  std::vector<int64_t> open;
  for (size_t e = 0; e < load.size(); ++e)
    if (load[e] == lightest || load[e] + weight <= lightest + bound) open.push_back(static_cast<int64_t>(e));
  return open;
}

// The numbers of one line.
std::vector<double> numbers_of(std::string_view line) {
  std::vector<double> out;
  const char *at = line.data(), *end = line.data() + line.size();
  while (true) {
    while (at != end && (*at == ' ' || *at == '\t' || *at == '\r')) ++at;
    if (at == end) return out;
    double value = 0;
    const auto [next, error] = std::from_chars(at, end, value);
    if (error != std::errc()) return {};
    out.push_back(value);
    at = next;
  }
}

}  // namespace

uint32_t fnv1a(std::initializer_list<uint32_t> words) {
  uint32_t hash = kOffset;
  for (const uint32_t word : words)
    for (int byte = 0; byte < 4; ++byte) hash = (hash ^ (word >> (8 * byte) & 0xFF)) * kPrime;
  return hash;
}

torch::Tensor fnv1a(const std::vector<torch::Tensor>& words) {
  std::vector<const int64_t*> at;
  std::vector<torch::Tensor> kept;
  for (const auto& word : words) at.push_back(kept.emplace_back(word.to(torch::kInt64).contiguous()).data_ptr<int64_t>());
  auto out = torch::empty_like(kept.at(0));
  auto* hash = out.data_ptr<int64_t>();
  for (int64_t i = 0; i < out.numel(); ++i) {
    uint32_t value = kOffset;
    for (const int64_t* word : at)
      for (int byte = 0; byte < 4; ++byte) value = (value ^ (static_cast<uint32_t>(word[i]) >> (8 * byte) & 0xFF)) * kPrime;
    hash[i] = value;
  }
  return out;
}

Table random_table(int64_t keys, int64_t experts, const RandomStream& stream) {
  Table table;
  for (int64_t i = 0; i < keys; ++i) table.push_back(static_cast<int64_t>(stream.below(static_cast<uint64_t>(i), static_cast<uint64_t>(experts))));
  return table;
}

Table dealt_table(int64_t keys, int64_t experts, const RandomStream& stream) {
  Table table(static_cast<size_t>(keys));
  const auto order = shuffled(keys, stream);
  for (int64_t i = 0; i < keys; ++i) table[static_cast<size_t>(order[static_cast<size_t>(i)])] = i % experts;
  return table;
}

Table balanced_table(std::span<const double> frequency, int64_t experts, const RandomStream* stream) {
  std::vector<size_t> order(frequency.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return frequency[a] > frequency[b]; });
  Table table(frequency.size());
  std::vector<double> load(static_cast<size_t>(experts), 0);
  for (size_t i = 0; i < order.size(); ++i) {
    const size_t key = order[i];
    const auto open = open_experts(load, frequency[key], stream ? frequency[order[0]] : 0);
    const int64_t expert = stream ? open[stream->below(i, open.size())] : open[0];
    load[static_cast<size_t>(expert)] += frequency[key];
    table[key] = expert;
  }
  return table;
}

std::vector<std::vector<double>> read_columns(const std::filesystem::path& path, int64_t columns) {
  const std::string text = read_text_file(path);
  std::vector<std::vector<double>> out(static_cast<size_t>(columns));
  int64_t line = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const auto numbers = numbers_of(std::string_view(text).substr(begin, end - begin));
    ++line;
    if (static_cast<int64_t>(numbers.size()) != columns)
      fail(ErrorKind::config, "{}:{}: '{}', expected {} number{}", path.string(), line, text.substr(begin, std::min<size_t>(end - begin, 40)), columns,
           columns == 1 ? "" : "s");
    for (size_t c = 0; c < numbers.size(); ++c) out[c].push_back(numbers[c]);
    begin = end + 1;
  }
  return out;
}

void write_table(const std::filesystem::path& path, const Table& table) {
  write_file_atomic(path, fmt::format("{}\n", fmt::join(table, "\n")));
}

torch::Tensor neighbour_ids(const torch::Tensor& token_ids, const torch::Tensor& sequence_ids, int64_t step) {
  const int64_t n = token_ids.size(0);
  auto out = torch::full_like(token_ids, -1);
  if (n < 2) return out;
  const int64_t from = step > 0 ? 0 : 1, to = 1 - from;
  const auto theirs = token_ids.slice(0, from, from + n - 1);
  auto own = out.slice(0, to, to + n - 1);
  if (!sequence_ids.defined()) own.copy_(theirs);
  else own.copy_(theirs.masked_fill(sequence_ids.slice(0, from, from + n - 1) != sequence_ids.slice(0, to, to + n - 1), -1));
  return out;
}

}  // namespace switchyard::token_tables
