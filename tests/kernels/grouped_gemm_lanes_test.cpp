// The blocks of vector FMA with the tiles of AVX-512 and of AVX2, on plain arrays: their logic is tested on every CPU.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/bf16.h"
#include "kernels/grouped_gemm_fma.h"

namespace switchyard::kernels::gemm {
namespace {

// A vector policy of grouped_gemm_fma.h.
template <int kLanes, int kTileRows>
struct Lanes {
  using Type = std::array<float, kLanes>;
  static constexpr int kWidth = kLanes, kRows = kTileRows;
  static constexpr int64_t kChunk = 64;
  static Type zero() { return {}; }
  static Type load(const float* p) { return load_part(p, kLanes); }
  static Type load_part(const float* p, int64_t n) {
    Type x{};
    std::memcpy(x.data(), p, sizeof(float) * static_cast<size_t>(n));
    return x;
  }
  static void store(float* p, const Type& x) { store_part(p, kLanes, x); }
  static void store_part(float* p, int64_t n, const Type& x) { std::memcpy(p, x.data(), sizeof(float) * static_cast<size_t>(n)); }
  template <int kFirst> static void store_first(float* p, const Type& x) { store_part(p, kFirst, x); }
  static Type broadcast(const float* p) {
    Type x;
    x.fill(*p);
    return x;
  }
  static Type fma(const Type& a, const Type& b, Type c) {
    for (size_t i = 0; i < kLanes; ++i) c[i] = std::fma(a[i], b[i], c[i]);
    return c;
  }
  static Type round_bf16(Type x) {
    for (float& v : x) v = round_to_bf16(v);
    return x;
  }
  static void transpose(Type (&square)[kLanes]) {
    for (size_t i = 0; i < kLanes; ++i)
      for (size_t j = 0; j < i; ++j) std::swap(square[i][j], square[j][i]);
  }
};

// Rows of A or columns of B, every value of them in exactly as much memory as they need: sanitizers see a step too far.
struct Values {
  Values(int64_t outer, int64_t k, bool along_k, uint32_t seed) : ld(along_k ? k : outer), along_k(along_k) {
    std::mt19937 random(seed);
    for (int64_t i = 0; i < outer * k; ++i) data.push_back(static_cast<float>(random() % 2001) / 1000.0f - 1.0f);
  }
  [[nodiscard]] Operand operand() const { return {data.data(), ld, along_k}; }
  [[nodiscard]] float at(int64_t o, int64_t p) const { return data[static_cast<size_t>(along_k ? o * ld + p : p * ld + o)]; }
  int64_t ld;
  bool along_k;
  std::vector<float> data;
};

std::vector<float> panels(const BlockKernel& kernel, bool is_a, const Values& x, int64_t outer, int64_t k) {
  const int64_t width = is_a ? kernel.mr : kernel.nr;
  std::vector<float> out(static_cast<size_t>((outer + width - 1) / width * width * k), std::nanf(""));
  (is_a ? kernel.pack_a : kernel.pack_b)(x.operand(), {0, outer, 0, k}, out.data());
  return out;
}

template <class V, bool kRound>
void check_blocks() {
  constexpr BlockKernel kernel = fma_kernel<V, kRound>();
  const auto operand = [](float x) { return static_cast<double>(kRound ? round_to_bf16(x) : x); };
  for (const int64_t rows : {int64_t{1}, kernel.mr - 1, kernel.mr, kernel.mr + 1, 2 * kernel.mr + 1})
    for (const int64_t cols : {1, 8, 15, 16, 17, 32, 47})
      for (const int64_t k : {1, 7, 16, 33})
        for (int form = 0; form < 8; ++form) {
          const Values a(rows, k, form & 1, 1), b(cols, k, form & 2, 2);
          const bool add = form & 4;
          const auto left = panels(kernel, true, a, rows, k), right = panels(kernel, false, b, cols, k);
          const auto multiply = [&](bool in_place) {
            std::vector<float> c(static_cast<size_t>(rows * cols), 0.5f);
            kernel.multiply({.a = in_place ? a.data.data() : left.data(), .lda = in_place ? a.ld : 0, .b = right.data(),
                             .b_panel_bytes = kernel.nr * k * 4, .rows = rows, .cols = cols, .k = k, .c = c.data(), .ldc = cols, .add = add});
            return c;
          };
          const auto c = multiply(false);
          for (int64_t r = 0; r < rows; ++r)
            for (int64_t j = 0; j < cols; ++j) {
              double want = add ? 0.5 : 0, magnitude = want;
              for (int64_t p = 0; p < k; ++p) want += operand(a.at(r, p)) * operand(b.at(j, p)), magnitude += std::abs(operand(a.at(r, p)) * operand(b.at(j, p)));
              ASSERT_NEAR(c[static_cast<size_t>(r * cols + j)], want, static_cast<double>(k + 2) * 0x1p-24 * magnitude)
                  << rows << " x " << cols << " x " << k << ", form " << form << ", row " << r << ", column " << j;
            }
          if (kernel.rows_in_place && a.along_k) {
            ASSERT_EQ(multiply(true), c) << rows << " x " << cols << " x " << k;
          }
        }
}

TEST(GroupedGemmOnLanes, SixteenByFourteenRows) {
  check_blocks<Lanes<16, 14>, false>();
  check_blocks<Lanes<16, 14>, true>();
}

TEST(GroupedGemmOnLanes, EightBySixRows) {
  check_blocks<Lanes<8, 6>, false>();
  check_blocks<Lanes<8, 6>, true>();
}

}  // namespace
}  // namespace switchyard::kernels::gemm
