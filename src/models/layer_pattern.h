// What the layers of a specification are made of, one by one.
#pragma once

#include "switchyard/model_spec.h"

#include <string>
#include <vector>

namespace switchyard {

// Layers that are alike: those of one entry of the pattern; without a pattern the dense ones and those with experts.
struct LayerGroup {
  LayerPlan plan;
  int64_t first = 0, count = 0;
};
[[nodiscard]] std::vector<LayerGroup> layer_groups(const ModelSpec& spec);

// Fills the widths that entries leave to the model, and refuses entries that say what their layer does not have.
void resolve_pattern(ModelSpec& spec);

}  // namespace switchyard
