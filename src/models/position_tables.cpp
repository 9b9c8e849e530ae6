#include "models/position_tables.h"
#include "core/beside.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

namespace switchyard {

torch::Tensor numbered_positions(const torch::Tensor& ids, const torch::Tensor& given, int64_t padding_id, const KvCache* cache) {
  const auto counts = ids != padding_id;
  auto number = given.defined() ? given + 1 : at::cumsum(counts.to(torch::kInt64), 1);
  if (!given.defined() && cache && cache->length > 0)
    number = number + (cache->token_ids.narrow(1, 0, cache->length) != padding_id).sum(1, /*keepdim=*/true);
  return at::where(counts, number + padding_id, torch::full({}, -1, torch::kInt64));
}

torch::Tensor sinusoidal(const torch::Tensor& positions, int64_t d_model) {
  const int64_t half = d_model / 2;
  const float step = -static_cast<float>(std::log(10000.0) / static_cast<double>(std::max<int64_t>(1, half - 1)));
  const auto frequency = at::exp(torch::arange(half, torch::kFloat32) * step);
  const auto angle = positions.to(torch::kFloat32).unsqueeze(-1) * frequency;  // [B, S, d/2]
  auto out = at::cat({angle.sin(), angle.cos()}, -1);
  if (d_model % 2 != 0) out = at::constant_pad_nd(out, {0, 1});
  return out.masked_fill((positions < 0).unsqueeze(-1), 0);
}

torch::Tensor relative_bucket(const torch::Tensor& distance, bool causal, int64_t buckets, int64_t max_distance) {
  const int64_t rows = causal ? buckets : buckets / 2, exact = rows / 2;
  const auto away = causal ? (-distance).clamp_min(0) : distance.abs();  // causal: keys in front of the query are not seen
  // In float32, as the models were trained: between two rows a rounding decides.
  const auto share = at::log(away.to(torch::kFloat32) / exact) / std::log(static_cast<double>(max_distance) / static_cast<double>(exact));
  const auto far = (exact + (share * (rows - exact)).to(torch::kInt64)).clamp_max(rows - 1);
  const auto row = at::where(away < exact, away, far);
  return causal ? row : row + (distance > 0).to(torch::kInt64) * rows;
}

torch::Tensor relative_bias(const torch::Tensor& table, int64_t first, int64_t queries, int64_t keys, const ModelSpec& spec) {
  // One row per distance, then each query takes its run of them: logarithms of queries + keys distances instead of their product.
  const auto rows = relative_bucket(torch::arange(-(first + queries - 1), keys - first, torch::kInt64), spec.causal, spec.relative_buckets, spec.relative_distance);
  const auto of_pair = torch::arange(keys, torch::kInt64).unsqueeze(0) - torch::arange(queries, torch::kInt64).unsqueeze(1) + (queries - 1);
  return at::embedding(table, beside(table, rows.index_select(0, of_pair.reshape({-1})).view({queries, keys}))).permute({2, 0, 1}).unsqueeze(0);
}

}  // namespace switchyard
