#include "kernels/rope.h"

#include "kernels/per_isa_test.h"

namespace switchyard::kernels {
namespace {

class Rope : public PerIsa {};
INSTANTIATE_TEST_SUITE_P(Isa, Rope, vector_isas(), isa_name);

TEST_P(Rope, EqualsLoopsAndItsInverseUndoesIt) {
  for (const auto& [head_dim, rotary_dim] : {std::pair<int64_t, int64_t>{2, 2}, {64, 64}, {80, 32}, {10, 6}, {38, 38}, {8, 0}}) {
    SCOPED_TRACE(testing::Message() << "head_dim=" << head_dim << " rotary_dim=" << rotary_dim);
    const int64_t batch = 2, tokens = 5, heads = 3, spare = 4, stride = heads * head_dim + spare, half = rotary_dim / 2;
    const std::vector<int64_t> positions = {0, 1, 2, 3, 4, 7, 0, 1, 19, 3};
    std::vector<float> cos(static_cast<size_t>(20 * half)), sin(cos.size());
    rope_table(20, rotary_dim, 10000.0, cos.data(), sin.data());
    const auto x = normal_values(batch * tokens * stride, 5);
    std::vector<double> want(x.begin(), x.end());
    for (int64_t n = 0; n < batch * tokens; ++n)
      for (int64_t h = 0; h < heads; ++h)
        for (int64_t i = 0; i < half; ++i) {
          const double angle = static_cast<double>(positions[static_cast<size_t>(n)]) *
                               std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(rotary_dim));
          const size_t low = static_cast<size_t>(n * stride + h * head_dim + i), high = low + static_cast<size_t>(half);
          want[low] = x[low] * std::cos(angle) - x[high] * std::sin(angle);
          want[high] = x[high] * std::cos(angle) + x[low] * std::sin(angle);
        }
    auto got = x;
    const RopeShape shape{batch, tokens, heads, head_dim, rotary_dim};
    const HeadRows<float> rows{got.data(), tokens * stride, stride};
    rope_rotate(shape, rows, positions.data(), cos.data(), sin.data(), false);
    expect_close(got, want, 1e-6, "rotated");
    const std::vector<int32_t> narrow(positions.begin(), positions.end());
    rope_rotate(shape, rows, narrow.data(), cos.data(), sin.data(), true);
    expect_close(got, {x.begin(), x.end()}, 1e-6, "turned back");
  }
}

TEST(RopeTable, PositionZeroIsTheIdentity) {
  std::vector<float> cos(8), sin(8);
  rope_table(2, 8, 500000.0, cos.data(), sin.data());
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(cos[i], 1.0f);
    EXPECT_EQ(sin[i], 0.0f);
  }
  EXPECT_FLOAT_EQ(cos[4], std::cos(1.0f));
  EXPECT_FLOAT_EQ(sin[5], std::sin(std::pow(500000.0f, -0.25f)));
}

}  // namespace
}  // namespace switchyard::kernels
