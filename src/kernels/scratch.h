// Working memory of kernels: one grow-only block per thread and use, so that hot paths allocate nothing after their first
// call. A block is valid until the same thread asks for the same use again; it is freed when the thread ends.
#pragma once

#include <cstdint>

namespace switchyard::kernels {

enum class ScratchUse {
  own,     // read and written by the thread that asked
  shared,  // asked for before a parallel region, used by its threads
};

// At least `floats` floats, 64-byte aligned, content undefined. Running out of memory ends the program.
[[nodiscard]] float* thread_scratch(ScratchUse use, int64_t floats) noexcept;

}  // namespace switchyard::kernels
