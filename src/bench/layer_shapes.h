// Sizes of published MoE layers, and routings of random tokens.
#pragma once

#include "switchyard/routing.h"

#include <string>
#include <vector>

namespace switchyard::bench {

// SwiGLU experts. Shared experts have the width of the routed ones.
struct LayerShape {
  std::string name;
  int64_t d_model = 0, d_expert = 0, num_experts = 0, top_k = 0, num_shared = 0;

  [[nodiscard]] double flop_per_token() const { return 6.0 * static_cast<double>((top_k + num_shared) * d_model * d_expert); }
};

[[nodiscard]] const std::vector<LayerShape>& layer_shapes();
// By its name; Error{usage} lists the names.
[[nodiscard]] const LayerShape& layer_shape(const std::string& name);

// Who goes where: uniform (k different experts, all alike), zipf (expert e with a probability in proportion to 1 / (e + 1), e in a
// random order), one (all tokens choose the same k experts). Error{usage} for another word. Weights are 1 / k.
[[nodiscard]] TokenChoice random_choice(const LayerShape& shape, int64_t tokens, const std::string& routing, const RandomStream& random);

}  // namespace switchyard::bench
