// Fixed maps from a key (a token id, a position) to an expert, for gates without parameters. A table is a list of experts,
// one per key; it is made once and then saved with the model.
#pragma once

#include "switchyard/random.h"

#include <torch/types.h>

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

namespace switchyard::token_tables {

using Table = std::vector<int64_t>;

// FNV-1a over the 4 little-endian bytes of each word in turn: a hash that needs neither table nor seed.
[[nodiscard]] uint32_t fnv1a(std::initializer_list<uint32_t> words);
// The same for tensors of int64 whose values fit 32 bits: one hash per place over the words found there.
[[nodiscard]] torch::Tensor fnv1a(const std::vector<torch::Tensor>& words);

// Every key draws its expert uniformly.
[[nodiscard]] Table random_table(int64_t keys, int64_t experts, const RandomStream& stream);

// A random order of the keys dealt to the experts in turn: numbers of keys differ by at most 1.
[[nodiscard]] Table dealt_table(int64_t keys, int64_t experts, const RandomStream& stream);

// Keys in descending frequency (equal: the lower key first), each to the lightest expert (equal: the lower one). The loads differ
// by at most the largest single frequency. With a stream: to a random one of the experts that keep this bound, so that several
// tables differ.
[[nodiscard]] Table balanced_table(std::span<const double> frequency, int64_t experts, const RandomStream* stream = nullptr);

// Keys with similar embeddings share an expert: k-means with one cluster per expert. embedding [keys, d].
[[nodiscard]] Table clustered_table(const torch::Tensor& embedding, int64_t experts, const RandomStream& stream);

// Keys with similar embeddings go apart: the members of every cluster are dealt to the experts in turn.
[[nodiscard]] Table dispersed_table(const torch::Tensor& embedding, int64_t experts, const RandomStream& stream);

// A text file of numbers, the same count on every line: rows[column][line]. Throws Error{config} naming the line.
[[nodiscard]] std::vector<std::vector<double>> read_columns(const std::filesystem::path& path, int64_t columns);
// One expert per line, as the `hash` gate reads them.
void write_table(const std::filesystem::path& path, const Table& table);

// The id before each token of its sequence, -1 at the beginning; `step` = -1 gives the id after it. Undefined sequence_ids:
// one sequence.
[[nodiscard]] torch::Tensor neighbour_ids(const torch::Tensor& token_ids, const torch::Tensor& sequence_ids, int64_t step = 1);

}  // namespace switchyard::token_tables
