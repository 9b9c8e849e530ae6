// What this machine can do at most, measured: the roofs that benchmarks compare with. All threads of the caller work.
#pragma once

#include <cstdint>
#include <memory>

#include "kernels/isa.h"

namespace switchyard::kernels {

// Which unit multiplies.
enum class MultiplyUnit { float32, bfloat16, int8 };

// Operations per second (multiply and add counted as two) of the best instructions of `isa` for the unit, in 1e9/s: vector units
// with operands in registers, AMX tiles with operands from the L1 cache, tiles zeroed at their last use. bfloat16 without AMX is
// float32 arithmetic on widened values. 0 where only plain loops exist (scalar).
[[nodiscard]] double multiply_peak(Isa isa, MultiplyUnit unit);

// Reads memory that no cache holds.
class BandwidthProbe {
 public:
  explicit BandwidthProbe(int64_t bytes = int64_t{5} << 28);  // 1.25 GiB
  // One pass over it in eight streams per thread, in 1e9 bytes/s.
  [[nodiscard]] double read_gbps() const;

 private:
  int64_t bytes_;
  std::shared_ptr<char> data_;
};

}  // namespace switchyard::kernels
