#include "kernels/isa.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdlib>

#include "switchyard/error.h"

namespace switchyard::kernels {
namespace {

constexpr int kLevels = 5;
constexpr int kNotForced = -1;
std::atomic<int> forced_level{kNotForced};

// Bits of XCR0: state that the operating system saves on a context switch.
constexpr uint64_t kXcr0Avx = 0x6;         // SSE and the upper halves of ymm
constexpr uint64_t kXcr0Avx512 = 0xe0;     // mask registers, upper halves of zmm, zmm16-31
constexpr uint64_t kXcr0Amx = 0x60000;     // tile configuration and tile data
constexpr long kArchReqXcompPerm = 0x1023;
constexpr long kXfeatureTileData = 18;

struct Registers {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers cpuid(unsigned leaf, unsigned subleaf) {
  Registers r;
  __get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx);  // leaves r zero if the leaf does not exist
  return r;
}

uint64_t read_xcr0(const Registers& leaf1) {
  if (!(leaf1.ecx >> 27 & 1)) return 0;  // OSXSAVE: without it XGETBV is an invalid instruction
  uint32_t low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<uint64_t>(high) << 32 | low;
}

struct Feature {
  bool present;
  const char* name;
};

template <size_t N>
std::string missing(const std::array<Feature, N>& features) {
  std::string list;
  for (const Feature& f : features)
    if (!f.present) list += (list.empty() ? "the CPU lacks " : ", ") + std::string(f.name);
  return list;
}

// Why each level is not available; empty = available.
struct Probe {
  std::array<std::string, kLevels> reason;

  Probe() {
    const Registers l1 = cpuid(1, 0), l7 = cpuid(7, 0), l71 = cpuid(7, 1);
    const uint64_t xcr0 = read_xcr0(l1);
    const auto bit = [](unsigned word, int position) { return (word >> position & 1) != 0; };
    const auto saved = [&](uint64_t mask) { return (xcr0 & mask) == mask; };

    std::string& avx2 = reason[static_cast<int>(Isa::avx2)];
    avx2 = missing(std::array<Feature, 3>{{{bit(l7.ebx, 5), "avx2"}, {bit(l1.ecx, 12), "fma"}, {bit(l1.ecx, 29), "f16c"}}});
    if (avx2.empty() && !saved(kXcr0Avx)) avx2 = "the operating system does not save ymm registers (XCR0)";

    std::string& avx512 = reason[static_cast<int>(Isa::avx512)];
    avx512 = missing(std::array<Feature, 4>{{{bit(l7.ebx, 16), "avx512f"}, {bit(l7.ebx, 17), "avx512dq"},
                                             {bit(l7.ebx, 30), "avx512bw"}, {bit(l7.ebx, 31), "avx512vl"}}});
    if (avx512.empty() && !saved(kXcr0Avx512)) avx512 = "the operating system does not save zmm registers (XCR0)";
    if (avx512.empty() && !avx2.empty()) avx512 = "needs avx2: " + avx2;

    std::string& vnni = reason[static_cast<int>(Isa::vnni)];
    vnni = missing(std::array<Feature, 1>{{{bit(l7.ecx, 11), "avx512_vnni"}}});
    if (vnni.empty() && !avx512.empty()) vnni = "needs avx512: " + avx512;

    std::string& amx = reason[static_cast<int>(Isa::amx)];
    amx = missing(std::array<Feature, 4>{{{bit(l7.edx, 24), "amx_tile"}, {bit(l7.edx, 22), "amx_bf16"},
                                          {bit(l7.edx, 25), "amx_int8"}, {bit(l71.eax, 5), "avx512_bf16"}}});
    if (amx.empty() && !saved(kXcr0Amx)) amx = "the operating system does not save tile registers (XCR0)";
    if (amx.empty() && !vnni.empty()) amx = "needs vnni: " + vnni;
    if (amx.empty() && syscall(SYS_arch_prctl, kArchReqXcompPerm, kXfeatureTileData) != 0)
      amx = "the kernel refuses tile data (arch_prctl ARCH_REQ_XCOMP_PERM)";
  }
};

const Probe& probe() {
  static const Probe once;
  return once;
}

const std::string& reason_against(Isa isa) { return probe().reason[static_cast<int>(isa)]; }

std::string available_names() {
  std::string list;
  for (int i = kLevels - 1; i >= 0; --i)
    if (cpu_has(kAllIsas[i])) list += (list.empty() ? "" : ", ") + std::string(name_of(kAllIsas[i]));
  return list;
}

}  // namespace

std::string_view name_of(Isa isa) noexcept {
  switch (isa) {
    case Isa::scalar: return "scalar";
    case Isa::avx2: return "avx2";
    case Isa::avx512: return "avx512";
    case Isa::vnni: return "vnni";
    case Isa::amx: return "amx";
  }
  return "?";
}

bool cpu_has(Isa isa) noexcept { return reason_against(isa).empty(); }

Isa isa_from_word(std::string_view word) {
  if (word.empty()) {
    Isa best = Isa::scalar;
    for (const Isa isa : kAllIsas)
      if (cpu_has(isa)) best = isa;
    return best;
  }
  for (const Isa isa : kAllIsas) {
    if (name_of(isa) != word) continue;
    if (!cpu_has(isa))
      fail(ErrorKind::unsupported, "SWITCHYARD_ISA={}: not on this CPU ({}); it has {}: choose one of them or unset it", word,
           reason_against(isa), available_names());
    return isa;
  }
  fail(ErrorKind::usage, "SWITCHYARD_ISA={}: unknown; this CPU has {}: choose one of them or unset it", word,
       available_names());
}

Isa selected_isa() {
  if (const int forced = forced_level.load(std::memory_order_relaxed); forced != kNotForced) return static_cast<Isa>(forced);
  static const Isa from_environment = [] {
    const char* word = std::getenv("SWITCHYARD_ISA");
    return isa_from_word(word ? word : "");
  }();
  return from_environment;
}

std::vector<IsaStatus> isa_report() {
  std::vector<IsaStatus> rows;
  for (const Isa isa : kAllIsas) rows.push_back({isa, cpu_has(isa), reason_against(isa)});
  return rows;
}

ScopedIsa::ScopedIsa(Isa isa) : previous_(forced_level.load()) {
  if (!cpu_has(isa))
    fail(ErrorKind::unsupported, "instruction set {}: {}; this CPU has {}", name_of(isa), reason_against(isa), available_names());
  forced_level.store(static_cast<int>(isa));
}

ScopedIsa::~ScopedIsa() { forced_level.store(previous_); }

}  // namespace switchyard::kernels
