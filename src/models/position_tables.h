// Positions without angles: fixed sinusoidal vectors, and learned biases per distance.
#pragma once

#include "switchyard/language_model.h"

namespace switchyard {

// Does the model have a bias per distance (relative, relative_first) instead of positions?
[[nodiscard]] inline bool has_distances(const ModelSpec& spec) { return spec.positions.starts_with("relative"); }

// Number of the position of each token of ids [B, S], those that `cache` holds before them counted: padding_id + 1, + 2, ... ;
// tokens that are padding_id have none (-1) and are not counted. `given` [B, S], counted from 0, replaces the counting when it is defined.
[[nodiscard]] torch::Tensor numbered_positions(const torch::Tensor& ids, const torch::Tensor& given, int64_t padding_id, const KvCache* cache);

// [B, S] int64 -> [B, S, d] float32: sine in the first half, cosine in the second, of position * 10000^(-i / (d/2 - 1)); the zero
// vector at -1 (arXiv:1706.03762 section 3.5 as tensor2tensor and fairseq lay it out).
[[nodiscard]] torch::Tensor sinusoidal(const torch::Tensor& positions, int64_t d_model);

// Row of the table for each distance key - query (T5, arXiv:1910.10683 section 2.1). With `causal` all rows are for keys behind the
// query, otherwise half of them each way. The nearer half of a direction's rows takes one distance each, the others grow
// logarithmically up to `max_distance`, from where on all share the last row. [...] int64 -> [...] int64.
[[nodiscard]] torch::Tensor relative_bucket(const torch::Tensor& distance, bool causal, int64_t buckets, int64_t max_distance);

// The bias of the queries first .. first + queries - 1 for the keys 0 .. keys - 1: table [buckets, H] -> [1, H, queries, keys].
[[nodiscard]] torch::Tensor relative_bias(const torch::Tensor& table, int64_t first, int64_t queries, int64_t keys, const ModelSpec& spec);

}  // namespace switchyard
