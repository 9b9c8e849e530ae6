// Grouped product, plain C++: the variant that runs everywhere and explains the others. A packed panel holds, for each
// contraction step, the kWidth values of its rows or columns side by side.
#include "kernels/bf16.h"
#include "kernels/grouped_gemm_block.h"

namespace switchyard::kernels::gemm {
namespace {

constexpr int64_t kWidth = 8;

template <bool kRound>
void pack(const Operand& x, const Piece& s, void* out) noexcept {
  auto* to = static_cast<float*>(out);
  for (int64_t panel = s.o0; panel < s.o1; panel += kWidth)
    for (int64_t p = s.k0; p < s.k1; ++p)
      for (int64_t o = panel; o < panel + kWidth; ++o) {
        const float value = o >= s.o1 ? 0.0f : x.along_k ? x.data[o * x.ld + p] : x.data[p * x.ld + o];
        *to++ = kRound ? round_to_bf16(value) : value;
      }
}

void multiply(const PackedProduct& p) noexcept {
  for (int64_t col = 0; col < p.cols; col += kWidth) {
    const auto* b = reinterpret_cast<const float*>(static_cast<const char*>(p.b) + col / kWidth * p.b_panel_bytes);
    const int64_t width = p.cols - col < kWidth ? p.cols - col : kWidth;
    for (int64_t row = 0; row < p.rows; ++row) {
      const float* a = static_cast<const float*>(p.a) + row / kWidth * kWidth * p.k + row % kWidth;
      float* c = p.c + row * p.ldc + col;
      float sum[kWidth] = {};
      if (p.add)
        for (int64_t j = 0; j < width; ++j) sum[j] = c[j];
      for (int64_t i = 0; i < p.k; ++i)
        for (int64_t j = 0; j < kWidth; ++j) sum[j] += a[i * kWidth] * b[i * kWidth + j];
      for (int64_t j = 0; j < width; ++j) c[j] = sum[j];
    }
  }
}

constexpr BlockKernel kernel(decltype(BlockKernel::pack_a) pack_function) {
  return {.mr = kWidth, .nr = kWidth, .k_step = 1, .element_bytes = 4, .k_chunk = 256, .block_rows = 64,
          .unshared_rows = 64, .rows_in_place = false, .pack_a = pack_function, .pack_b = pack_function, .multiply = multiply};
}

}  // namespace

const BlockKernel kScalarF32 = kernel(pack<false>);
const BlockKernel kScalarBf16 = kernel(pack<true>);

}  // namespace switchyard::kernels::gemm
