// Many draws at once are the single draws, bit for bit, on every instruction set: old seeds keep their meaning.
#include "kernels/random_fill.h"

#include <utility>

#include "kernels/per_isa_test.h"
#include "switchyard/random.h"

namespace switchyard::kernels {
namespace {

class RandomFill : public PerIsa {};
INSTANTIATE_TEST_SUITE_P(Isa, RandomFill, vector_isas(), isa_name);

TEST_P(RandomFill, EqualsSingleDraws) {
  for (const auto& [count, first] : {std::pair<int64_t, uint64_t>{200000, 0}, {1, 5}, {3, 0}, {kNormalBlock + 7, 1u << 20}, {0, 0}}) {
    const RandomStream stream(static_cast<uint64_t>(count), "fill");
    std::vector<float> uniform(static_cast<size_t>(count)), normal(uniform.size());
    stream.fill_uniform(uniform.data(), count, first);
    stream.fill_normal(normal.data(), count, first);
    for (size_t i = 0; i < uniform.size(); ++i) {
      ASSERT_EQ(uniform[i], static_cast<float>(stream.bits(first + i) >> 40) * 0x1p-24f) << i;
      ASSERT_EQ(normal[i], static_cast<float>(stream.normal(first + i))) << i;
    }
  }
}

}  // namespace
}  // namespace switchyard::kernels
