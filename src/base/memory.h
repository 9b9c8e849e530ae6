// The allocator's habits, for programs that allocate and free the same large tensors step after step.
#pragma once

namespace switchyard {

// Freed memory stays with the process: by default glibc hands large blocks back to the system at once, and every training
// step pays for the same pages again (15 % of a step of the demo). Call it once, at the start of a program.
void keep_freed_memory();

}  // namespace switchyard
