// A communicator whose ranks are threads of one process: every collective is a meeting (comm/meeting.h) at which the ranks
// copy from each other's memory.
#pragma once

#include "comm/meeting.h"
#include "switchyard/communicator.h"

namespace switchyard::comm {

// Rank `rank` of `group`; one thread at a time may use it.
[[nodiscard]] std::shared_ptr<Communicator> thread_communicator(std::shared_ptr<Group> group, int64_t rank);

}  // namespace switchyard::comm
