#include "kernels/isa.h"

#include <gtest/gtest.h>

#include <string>

#include "switchyard/error.h"

namespace switchyard::kernels {
namespace {

TEST(Isa, EveryCpuHasScalar) { EXPECT_TRUE(cpu_has(Isa::scalar)); }

TEST(Isa, LevelsFormALadder) {
  bool above = true;
  for (const Isa isa : kAllIsas) {
    if (!above) {
      EXPECT_FALSE(cpu_has(isa)) << name_of(isa) << " without the level below it";
    }
    above = cpu_has(isa);
  }
}

// The compiler's own run-time library asks the CPU independently of our probe (it knows nothing of AMX in GCC 12).
TEST(Isa, AgreesWithTheCompilersProbe) {
  __builtin_cpu_init();
  EXPECT_EQ(cpu_has(Isa::avx2), __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"));
  EXPECT_EQ(cpu_has(Isa::avx512), __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"));
}

TEST(Isa, EmptyWordMeansTheBestLevel) {
  const Isa best = isa_from_word("");
  EXPECT_TRUE(cpu_has(best));
  for (const Isa isa : kAllIsas)
    if (isa > best) {
      EXPECT_FALSE(cpu_has(isa));
    }
}

TEST(Isa, KnownWordsGiveTheirLevelOrSayWhatTheCpuHas) {
  for (const Isa isa : kAllIsas) {
    if (cpu_has(isa)) {
      EXPECT_EQ(isa_from_word(name_of(isa)), isa);
      continue;
    }
    try {
      static_cast<void>(isa_from_word(name_of(isa)));
      ADD_FAILURE() << name_of(isa) << " is not available but was accepted";
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::unsupported);
      EXPECT_NE(std::string(e.what()).find("it has"), std::string::npos) << e.what();
      EXPECT_NE(std::string(e.what()).find("scalar"), std::string::npos) << e.what();
    }
  }
}

TEST(Isa, UnknownWordIsAUsageError) {
  try {
    static_cast<void>(isa_from_word("avx1024"));
    FAIL() << "accepted";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::usage);
    EXPECT_NE(std::string(e.what()).find("SWITCHYARD_ISA=avx1024"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("scalar"), std::string::npos) << e.what();
  }
}

TEST(Isa, ScopedIsaForcesAndRestores) {
  const Isa before = selected_isa();
  {
    const ScopedIsa outer(Isa::scalar);
    EXPECT_EQ(selected_isa(), Isa::scalar);
    {
      const ScopedIsa inner(isa_from_word(""));
      EXPECT_EQ(selected_isa(), isa_from_word(""));
    }
    EXPECT_EQ(selected_isa(), Isa::scalar);
  }
  EXPECT_EQ(selected_isa(), before);
}

TEST(Isa, ReportHasAReasonForEveryNo) {
  const auto rows = isa_report();
  ASSERT_EQ(rows.size(), std::size(kAllIsas));
  for (const IsaStatus& row : rows) {
    EXPECT_EQ(row.available, cpu_has(row.isa));
    EXPECT_EQ(row.available, row.reason.empty()) << name_of(row.isa) << ": " << row.reason;
  }
}

}  // namespace
}  // namespace switchyard::kernels
