// Capacity of devices instead of experts.
#pragma once

#include "switchyard/dispatch_plan.h"

namespace switchyard {

// Which pairs [T, k] stay when each of options.devices groups of consecutive experts takes factor * (wanted pairs) / devices
// of them: those of highest probability, equal ones in token order. Pairs of protected sequences come first and are never
// dropped: a sequence is protected with probability options.protected_share, drawn by its id. All tokens of a call compete, or
// group_size of them. Source: DeepSeek-V2, arXiv:2405.04434 section 2.2.4 (factor 1, 10 % protected).
[[nodiscard]] torch::Tensor places_on_devices(const TokenChoice& choice, const Scores& scores, const GateInput& input, int64_t num_experts,
                                              const CapacityOptions& options);

}  // namespace switchyard
