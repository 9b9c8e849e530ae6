// Statistics with one row per sequence instead of one per token: for losses of gates that decide once per sequence, where a
// long sequence shall not count for more than a short one.
#pragma once

#include "switchyard/routing_stats.h"

namespace switchyard {

// The row of a sequence is that of its first valid token. Throws Error{config} in the name of `loss` when the call has no
// sequence_ids or tokens do not choose experts.
[[nodiscard]] RoutingStats one_per_sequence(const RoutingStats& stats, const char* loss);

}  // namespace switchyard
