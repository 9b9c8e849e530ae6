#include "kernels/random_fill.h"

#include <algorithm>

#include "kernels/per_isa.h"
#include "switchyard/random.h"

namespace switchyard {
namespace kernels {

SW_PER_ISA(void, uniform_draws, (uint64_t, uint64_t, int64_t, float*))
// n <= kNormalBlock. Lists the draws that may have been rounded to the wrong side in unsure [n], and returns how many they are.
SW_PER_ISA(int64_t, normal_draws, (uint64_t, uint64_t, int64_t, float*, int64_t*))

namespace {

auto best_uniform() { return SW_BEST_VARIANT(uniform_draws); }
auto best_normal() { return SW_BEST_VARIANT(normal_draws); }

}  // namespace
}  // namespace kernels

void RandomStream::fill_uniform(float* out, int64_t n, uint64_t first) const {
  constexpr int64_t kBlock = 4096;
  const auto draws = kernels::best_uniform();
#pragma omp parallel for schedule(static) if (n > 65536)
  for (int64_t i = 0; i < n; i += kBlock) draws(key_, first + static_cast<uint64_t>(i), std::min(kBlock, n - i), out + i);
}

void RandomStream::fill_normal(float* out, int64_t n, uint64_t first) const {
  const auto draws = kernels::best_normal();
#pragma omp parallel for schedule(static) if (n > 16384)
  for (int64_t i = 0; i < n; i += kernels::kNormalBlock) {
    int64_t unsure[kernels::kNormalBlock];
    const uint64_t begin = first + static_cast<uint64_t>(i);
    const int64_t count = draws(key_, begin, std::min(kernels::kNormalBlock, n - i), out + i, unsure);
    for (int64_t j = 0; j < count; ++j) out[i + unsure[j]] = static_cast<float>(normal(begin + static_cast<uint64_t>(unsure[j])));
  }
}

}  // namespace switchyard
