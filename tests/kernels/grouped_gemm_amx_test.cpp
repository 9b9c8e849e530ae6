// The AMX blocks of grouped products, on the CPU and on a model of its tiles, against loops in float64.
#include "amx_test.h"
#include "kernels/bf16.h"
#include "kernels/grouped_gemm_block.h"

namespace switchyard::kernels::gemm {

extern const BlockKernel kModelBf16;  // grouped_gemm_model_amx.cpp

namespace {

// An operand with `outer` rows or columns, and its panels.
struct Side {
  Side(int64_t outer, int64_t k, bool along_k, uint32_t seed)
      : outer(outer), k(k), ld(along_k ? k + 5 : outer + 5), values(uniform_values(ld * (along_k ? outer : k), seed)), operand{values.data(), ld, along_k} {}
  [[nodiscard]] double at(int64_t o, int64_t p) const {
    return round_to_bf16(values[static_cast<size_t>(operand.along_k ? o * ld + p : p * ld + o)]);
  }
  [[nodiscard]] int64_t panel_bytes(const BlockKernel& kernel) const {
    return kernel.mr * ((k + kernel.k_step - 1) / kernel.k_step * kernel.k_step) * kernel.element_bytes;
  }
  // Panels of [first, last).
  [[nodiscard]] std::vector<char> packed(const BlockKernel& kernel, bool is_a, int64_t first, int64_t last) const {
    std::vector<char> panels(static_cast<size_t>((last - first + kernel.mr - 1) / kernel.mr * panel_bytes(kernel) + 64));
    (is_a ? kernel.pack_a : kernel.pack_b)(operand, {first, last, 0, k}, aligned(panels));
    return panels;
  }

  int64_t outer, k, ld;
  std::vector<float> values;
  Operand operand;
};

class GroupedGemmOnTiles : public OnTiles {
 protected:
  void SetUp() override { skip_unless_it_runs(true); }
  static const BlockKernel& kernel() { return GetParam() == Tiles::cpu ? kAmxBf16 : kModelBf16; }

  static Output multiply(const Side& a, const Side& b, int64_t row0, int64_t row1, bool add) {
    auto left = a.packed(kernel(), true, row0, row1), right = b.packed(kernel(), false, 0, b.outer);
    Output c(row1 - row0, b.outer, 3);
    kernel().multiply({aligned(left), 0, aligned(right), b.panel_bytes(kernel()), row1 - row0, b.outer, a.k, c.data(), c.ld(), add});
    return c;
  }
};
INSTANTIATE_TEST_SUITE_P(Where, GroupedGemmOnTiles, testing::Values(Tiles::model, Tiles::cpu), tiles_name);

// 2^-24 per addition of the sum of magnitudes, as grouped_gemm_test.cpp derives it.
TEST_P(GroupedGemmOnTiles, EqualsLoopsAndTouchesNothingElse) {
  for (const int64_t rows : {1, 2, 15, 16, 17, 31, 33, 40, 126})
    for (const int64_t cols : {1, 16, 17, 33, 97})
      for (const int64_t k : {1, 31, 32, 70})
        for (int form = 0; form < 8; ++form) {
          const Side a(rows, k, form & 1, 1), b(cols, k, form & 2, 2);
          const bool add = form & 4;
          const Output c = multiply(a, b, 0, rows, add);
          c.expect_rest_untouched();
          for (int64_t r = 0; r < rows; ++r)
            for (int64_t j = 0; j < cols; ++j) {
              double want = add ? c.before(r, j) : 0, magnitude = std::abs(want);
              for (int64_t p = 0; p < k; ++p) want += a.at(r, p) * b.at(j, p), magnitude += std::abs(a.at(r, p) * b.at(j, p));
              ASSERT_NEAR(c.at(r, j), want, static_cast<double>(k + 2) * 0x1p-24 * magnitude)
                  << rows << " x " << cols << " x " << k << ", form " << form << ", row " << r << ", column " << j;
            }
        }
}

TEST_P(GroupedGemmOnTiles, RowsDoNotDependOnTheirNeighbours) {
  const Side a(70, 300, true, 4), b(50, 300, true, 5);
  const Output whole = multiply(a, b, 0, 70, false);
  for (const int64_t first : {0, 5, 40})
    for (const int64_t rows : {1, 7, 16, 17, 30}) {
      const Output part = multiply(a, b, first, first + rows, false);
      for (int64_t r = 0; r < rows; ++r) ASSERT_EQ(0, std::memcmp(part.row(r), whole.row(first + r), 50 * sizeof(float))) << rows << " rows from " << first;
    }
}

}  // namespace
}  // namespace switchyard::kernels::gemm
