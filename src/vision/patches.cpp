#include "vision/patches.h"

#include "vision/training.h"

#include <ATen/ATen.h>

#include <cmath>

namespace switchyard::vision {

ClusterPatches::ClusterPatches(uint64_t seed, int64_t clusters, int64_t d) : stream_(seed, "cluster patches") {
  const auto basis = orthonormal(stream_.at("basis"), 2 * clusters, d);
  centres_ = basis.slice(0, 0, clusters);
  features_ = basis.slice(0, clusters);
}

PatchSamples ClusterPatches::draw(const char* part, int64_t n) const {
  const auto stream = stream_.at(part);
  const auto number = [&](const char* what, double low, double high) { return uniform(stream.at(what), {n, 1}, low, high); };
  const auto sign = [&](const char* what) { return (2 * integers(stream.at(what), n, 2) - 1).to(torch::kFloat32).unsqueeze(1); };
  PatchSamples out;
  out.cluster = integers(stream.at("cluster"), n, clusters());
  out.labels = integers(stream.at("label"), n, 2);
  const auto y = (2 * out.labels - 1).to(torch::kFloat32).unsqueeze(1);
  const auto other = at::remainder(out.cluster + 1 + integers(stream.at("other"), n, clusters() - 1), clusters());
  const auto patches = at::stack({number("alpha", 0.5, 2) * y * features_.index_select(0, out.cluster), number("beta", 1, 2) * centres_.index_select(0, out.cluster),
                                  number("gamma", 0.5, 3) * sign("epsilon") * features_.index_select(0, other),
                                  normal(stream.at("noise"), {n, width()}, 1 / std::sqrt(static_cast<double>(width())))},
                                 1);
  const auto order = uniform(stream.at("order"), {n, kPatches}).argsort(/*stable=*/true, 1, /*descending=*/false);
  out.x = patches.gather(1, order.unsqueeze(2).expand({n, kPatches, width()})).contiguous();
  return out;
}

OnePatch::OnePatch(uint64_t seed, int64_t patches, int64_t d, int64_t irrelevant, double noise)
    : stream_(seed, "one patch"), patches_(patches), noise_(noise), patterns_(orthonormal(stream_.at("patterns"), 2 + irrelevant, d)) {}

PatchSamples OnePatch::draw(const char* part, int64_t n) const {
  const auto stream = stream_.at(part);
  PatchSamples out;
  out.labels = integers(stream.at("label"), n, 2);
  out.cluster = integers(stream.at("place"), n, patches_);
  auto which = 2 + integers(stream.at("irrelevant"), n * patches_, patterns_.size(0) - 2).view({n, patches_});
  which.scatter_(1, out.cluster.unsqueeze(1), out.labels.unsqueeze(1));
  out.x = patterns_.index_select(0, which.flatten()).view({n, patches_, width()}) + normal(stream.at("noise"), {n, patches_, width()}, noise_);
  return out;
}

}  // namespace switchyard::vision
