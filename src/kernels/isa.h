// Which instruction sets the kernels may use on this CPU, and which one they do use.
//
// The levels are a ladder: each one includes those before it, so that a kernel family may leave a step out and take the
// best variant at or below selected_isa(). The probe is compiled without ISA flags and asks three parties: the CPU
// (CPUID), the operating system's saved state (XCR0), and for AMX the kernel's permission to use tile data
// (arch_prctl ARCH_REQ_XCOMP_PERM, Linux 5.16 and later).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace switchyard::kernels {

enum class Isa {
  scalar,  // plain C++, every CPU; the truth the others are tested against
  avx2,    // AVX2, FMA, F16C
  avx512,  // AVX-512 F, BW, VL, DQ
  vnni,    // AVX-512 VNNI: products of bytes
  amx,     // AMX tiles with bf16 and int8, AVX-512 BF16
};

inline constexpr Isa kAllIsas[] = {Isa::scalar, Isa::avx2, Isa::avx512, Isa::vnni, Isa::amx};

[[nodiscard]] std::string_view name_of(Isa isa) noexcept;

// True if code compiled for `isa` runs here. The first call probes (microseconds); later calls are a table look-up.
[[nodiscard]] bool cpu_has(Isa isa) noexcept;

// The level that kernels use: that of the innermost ScopedIsa, else the one named by SWITCHYARD_ISA, else the best one.
// SWITCHYARD_ISA is read once. Throws `usage` for an unknown word and `unsupported` for a level that is not available.
[[nodiscard]] Isa selected_isa();

// The level that the word names, under the rules of SWITCHYARD_ISA; an empty word means the best level.
[[nodiscard]] Isa isa_from_word(std::string_view word);

// One line per level for `switchyard doctor`.
struct IsaStatus {
  Isa isa;
  bool available;
  std::string reason;  // why not; empty if available
};
[[nodiscard]] std::vector<IsaStatus> isa_report();

// Forces a level while it lives: for tests and benchmarks that compare variants. Acts on the whole process; nest, do not
// interleave. Throws `unsupported` if the CPU lacks the level.
class ScopedIsa {
 public:
  explicit ScopedIsa(Isa isa);
  ~ScopedIsa();
  ScopedIsa(const ScopedIsa&) = delete;
  ScopedIsa& operator=(const ScopedIsa&) = delete;

 private:
  int previous_;
};

}  // namespace switchyard::kernels
