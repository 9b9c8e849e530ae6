// Specifications that mean the same model become equal: what does not act is set to its default, options are written in
// full, and a chain of blocks that has a short form takes it.
#pragma once

#include "switchyard/model_spec.h"

namespace switchyard {

[[nodiscard]] ModelSpec canonical(const ModelSpec& spec);

// Losses, and by how much a bias on the choice moves per step, say how a model is trained and not what it computes: without them.
[[nodiscard]] ModelSpec without_training_rules(ModelSpec spec);

// The first value in which `b` differs from `a`, as "moe.routed_scale = 2.5, not 1"; empty when there is none.
[[nodiscard]] std::string first_difference(const nlohmann::ordered_json& a, const nlohmann::ordered_json& b);

}  // namespace switchyard
