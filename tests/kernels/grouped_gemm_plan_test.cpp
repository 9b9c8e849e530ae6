// How a grouped product is cut into blocks: nothing is left out or done twice, packed operands fit their memory, threads end together.
#include "kernels/grouped_gemm_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace switchyard::kernels::gemm {
namespace {

struct NamedKernel {
  const char* name;
  const BlockKernel& kernel;
};
const NamedKernel kKernels[] = {{"scalar", kScalarF32}, {"avx2", kAvx2F32}, {"avx512", kAvx512F32}, {"amx", kAmxBf16}};

// A plan reads sizes only: the operands are not there.
struct Sizes {
  Sizes(GemmForm form, const std::vector<int64_t>& rows, int64_t width, int64_t n) : offsets(1, 0) {
    for (const int64_t r : rows) offsets.push_back(offsets.back() + r);
    call = {.form = form, .offsets = offsets.data(), .experts = static_cast<int64_t>(rows.size()), .n = n};
    (form == GemmForm::tn ? call.m : call.k) = width;
  }
  std::vector<int64_t> offsets;
  GroupedGemm call;
};

void expect_each_output_once(const Plan& plan, const GroupedGemm& g) {
  for (int64_t e = 0; e < g.experts; ++e) {
    const Problem p = problem_of(g, e);
    std::vector<uint8_t> times(static_cast<size_t>(p.rows * p.cols));
    for (const BlockItem& b : plan.blocks) {
      if (b.expert != e) continue;
      ASSERT_TRUE(0 <= b.m0 && b.m0 < b.m1 && b.m1 <= p.rows && 0 <= b.n0 && b.n0 < b.n1 && b.n1 <= p.cols);
      for (int64_t m = b.m0; m < b.m1; ++m)
        for (int64_t n = b.n0; n < b.n1; ++n) ++times[static_cast<size_t>(m * p.cols + n)];
    }
    EXPECT_TRUE(std::ranges::all_of(times, [](uint8_t t) { return t == 1; })) << "expert " << e;
  }
}

TEST(GroupedGemmPlan, BlocksCoverEveryOutputOnceAndFitTheirMemory) {
  const std::vector<int64_t> rows = {0, 1, 33, 280, 281, 512, 560, 561, 1500};
  for (const auto& [name, kernel] : kKernels)
    for (const GemmForm form : {GemmForm::nt, GemmForm::nn, GemmForm::tn})
      for (const auto& [width, n] : std::vector<std::pair<int64_t, int64_t>>{{128, 384}, {192, 128}, {1, 700}, {33, 17}, {700, 300}, {2048, 64}})
        for (const int threads : {1, 2, 5}) {
          SCOPED_TRACE(std::string(name) + " form " + std::to_string(static_cast<int>(form)) + " width " + std::to_string(width) + " n " + std::to_string(n));
          const Sizes sizes(form, rows, width, n);
          Plan plan;
          plan.build(sizes.call, kernel, threads);
          expect_each_output_once(plan, sizes.call);
          // A thread's memory for packed A is block_rows by k_chunk (grouped_gemm.cpp).
          const int64_t room = packed_bytes(kernel, kernel.block_rows, kernel.k_chunk);
          for (const BlockItem& b : plan.blocks) {
            const int64_t panels = (b.m1 - b.m0 + kernel.mr - 1) / kernel.mr, depth = std::min(problem_of(sizes.call, b.expert).depth, kernel.k_chunk);
            EXPECT_LE(packed_bytes(kernel, panels * kernel.mr, depth), room) << b.m1 - b.m0 << " rows of expert " << b.expert;
          }
        }
}

TEST(GroupedGemmPlan, AShortContractionPacksItsWeightsOnce) {
  const Sizes sizes(GemmForm::nt, std::vector<int64_t>(16, 512), 128, 384);  // a layer of recipes/demo/moe.toml
  Plan plan;
  plan.build(sizes.call, kAvx512F32, 2);
  EXPECT_TRUE(plan.packs.empty());
  for (const BlockItem& b : plan.blocks) EXPECT_EQ(b.m1 - b.m0, 512);
}

TEST(GroupedGemmPlan, TheLastBlocksAreSmall) {
  for (const int threads : {2, 4}) {
    const Sizes sizes(GemmForm::nt, std::vector<int64_t>(16, 512), 128, 384);
    Plan plan;
    plan.build(sizes.call, kAvx512F32, threads);
    const auto work = [](const BlockItem& b) { return (b.m1 - b.m0) * (b.n1 - b.n0); };
    int64_t largest = 0, last = 0;
    for (const BlockItem& b : plan.blocks) largest = std::max(largest, work(b));
    for (size_t i = plan.blocks.size() - static_cast<size_t>(threads); i < plan.blocks.size(); ++i) last = std::max(last, work(plan.blocks[i]));
    EXPECT_LE(2 * last, largest) << threads << " threads";
  }
}

}  // namespace
}  // namespace switchyard::kernels::gemm
