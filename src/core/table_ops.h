// Reads of a few rows of a large table [N, d], such as single-neuron experts. The gradient of the table is sparse: a coalesced COO
// tensor that holds the rows which were read, and nothing else (float32; other dtypes run on plain ATen with a dense one).
#pragma once

#include <torch/types.h>

namespace switchyard::ops {

// Which rows a call reads: ids [T, m] int64 of 0 .. N-1, repeats allowed.
struct TableReads {
  explicit TableReads(const torch::Tensor& ids);
  torch::Tensor ids;       // [T, m], contiguous
  torch::Tensor rows, at;  // the distinct ids, rising [R], and the place of each read among them [T, m]; made only when gradients are on
};

// x [T, d], table [N, d] -> [T, m]: <x[t], table[ids[t, j]]>
[[nodiscard]] torch::Tensor table_dot(const torch::Tensor& x, const torch::Tensor& table, const TableReads& reads);
// table [N, d], weights [T, m] -> [T, d]: sum_j weights[t, j] table[ids[t, j]]
[[nodiscard]] torch::Tensor table_sum(const torch::Tensor& table, const torch::Tensor& weights, const TableReads& reads);

}  // namespace switchyard::ops
