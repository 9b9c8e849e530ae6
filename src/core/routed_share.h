// What a join that mixes shared and routed experts per token reports, and the losses on it read: RoutingStats::terms holds the
// sum of the routed share over the valid tokens of the layer.
#pragma once

namespace switchyard {

inline constexpr const char* kRoutedShare = "routed_share";

}  // namespace switchyard
