#include "bench/layer_shapes.h"

#include "switchyard/error.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace switchyard::bench {

const std::vector<LayerShape>& layer_shapes() {
  static const std::vector<LayerShape> shapes = {
      {"olmoe", 2048, 1024, 64, 8},        // arXiv:2409.02060
      {"mixtral", 4096, 14336, 8, 2},      // arXiv:2401.04088
      {"fine", 2048, 1408, 64, 6, 2},      // arXiv:2401.06066
      {"demo", 256, 64, 8, 2},
  };
  return shapes;
}

const LayerShape& layer_shape(const std::string& name) {
  std::vector<std::string> names;
  for (const LayerShape& shape : layer_shapes()) {
    if (shape.name == name) return shape;
    names.push_back(shape.name);
  }
  fail(ErrorKind::usage, "shape '{}': expected {}", name, fmt::join(names, ", "));
}

TokenChoice random_choice(const LayerShape& s, int64_t tokens, const std::string& routing, const RandomStream& random) {
  if (routing != "uniform" && routing != "zipf" && routing != "one") fail(ErrorKind::usage, "routing '{}': expected uniform, zipf or one", routing);
  std::vector<int64_t> place(static_cast<size_t>(s.num_experts));  // popularity of an expert, 0 first
  std::iota(place.begin(), place.end(), 0);
  for (size_t i = place.size() - 1; i > 0; --i) std::swap(place[i], place[random.at("order").below(i, i + 1)]);
  auto ids = torch::empty({tokens, s.top_k}, torch::kInt64);
  std::vector<std::pair<double, int64_t>> draws(place.size());
  for (int64_t t = 0; t < tokens; ++t) {
    // The k smallest of exponential draws with rates p_e are k draws without replacement in proportion to p_e.
    for (int64_t e = 0; e < s.num_experts; ++e) {
      const double popularity = static_cast<double>(place[static_cast<size_t>(e)]);
      const double u = random.uniform(static_cast<uint64_t>(t * s.num_experts + e));
      draws[static_cast<size_t>(e)] = {routing == "one" ? popularity : -std::log1p(-u) * (routing == "zipf" ? popularity + 1 : 1), e};
    }
    std::partial_sort(draws.begin(), draws.begin() + s.top_k, draws.end());
    for (int64_t j = 0; j < s.top_k; ++j) ids.data_ptr<int64_t>()[t * s.top_k + j] = draws[static_cast<size_t>(j)].second;
  }
  return {ids, torch::full({tokens, s.top_k}, 1.0 / static_cast<double>(s.top_k), torch::kFloat32)};
}

}  // namespace switchyard::bench
