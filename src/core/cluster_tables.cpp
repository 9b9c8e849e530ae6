// Tables from embeddings: k-means (Lloyd's rounds, starting points drawn by squared distance), then either one expert per
// cluster or the members of each cluster spread over all experts. Source: Hash layers, arXiv:2106.04426 section 3.2.
#include "core/token_tables.h"

#include "switchyard/error.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace switchyard::token_tables {
namespace {

constexpr int kRounds = 50;

// Squared distances of all points [n, d] to all centres [k, d].
torch::Tensor distances(const torch::Tensor& points, const torch::Tensor& centres) {
  const auto squares = [](const torch::Tensor& x) { return x.square().sum(-1); };
  return (squares(points).unsqueeze(1) + squares(centres) - 2 * at::matmul(points, centres.t())).clamp_min(0);
}

// The first centre is a random point, each next one a point drawn in proportion to its squared distance from those before it.
torch::Tensor starting_points(const torch::Tensor& points, int64_t clusters, const RandomStream& stream) {
  const int64_t n = points.size(0);
  std::vector<torch::Tensor> centres = {points[static_cast<int64_t>(stream.below(0, static_cast<uint64_t>(n)))]};
  while (static_cast<int64_t>(centres.size()) < clusters) {
    const auto sums = std::get<0>(distances(points, at::stack(centres)).min(1)).cumsum(0);
    const double total = sums[n - 1].item<double>(), mark = stream.uniform(centres.size()) * total;
    // Fewer different points than clusters: the rest start in the same place and stay empty.
    const int64_t place = total > 0 ? (sums <= mark).sum().item<int64_t>() : 0;
    centres.push_back(points[std::min(place, n - 1)]);
  }
  return at::stack(centres);
}

// Cluster of each point [n]; equal distances: the lower cluster.
torch::Tensor k_means(const torch::Tensor& embedding, int64_t clusters, const RandomStream& stream) {
  if (embedding.dim() != 2 || embedding.size(0) < 1 || clusters < 1)
    fail(ErrorKind::usage, "clusters of an embedding of shape [{}] in {} parts: expected [keys, d] and at least one part", embedding.numel(), clusters);
  const auto points = embedding.detach().to(torch::kFloat64);
  auto centres = starting_points(points, clusters, stream);
  torch::Tensor cluster;
  for (int round = 0; round < kRounds; ++round) {
    const auto next = distances(points, centres).argmin(1);
    if (cluster.defined() && next.equal(cluster)) break;
    cluster = next;
    const auto sums = torch::zeros_like(centres).index_add(0, cluster, points);
    const auto counts = at::bincount(cluster, {}, clusters).unsqueeze(1).to(torch::kFloat64);
    centres = at::where(counts > 0, sums / counts.clamp_min(1), centres);
  }
  return cluster;
}

Table as_table(const torch::Tensor& ids) {
  const auto flat = ids.contiguous();
  return {flat.data_ptr<int64_t>(), flat.data_ptr<int64_t>() + flat.numel()};
}

}  // namespace

Table clustered_table(const torch::Tensor& embedding, int64_t experts, const RandomStream& stream) { return as_table(k_means(embedding, experts, stream)); }

Table dispersed_table(const torch::Tensor& embedding, int64_t experts, const RandomStream& stream) {
  const Table cluster = clustered_table(embedding, experts, stream);
  Table table(cluster.size());
  int64_t turn = 0;  // goes on from cluster to cluster, so that the experts get equally many keys
  for (int64_t c = 0; c < experts; ++c)
    for (size_t i = 0; i < cluster.size(); ++i)
      if (cluster[i] == c) table[i] = turn++ % experts;
  return table;
}

}  // namespace switchyard::token_tables
