// Where the values of joint and transposed tensors stand, one value at a time.
#include "io/gguf/value_layout.h"

#include <gtest/gtest.h>

namespace switchyard::io {
namespace {
namespace value_layout {

using Shape = std::vector<int64_t>;

// The numbers of file and folder by their indices: what each arrangement says in value_layout.h, one value at a time.
TEST(ValueLayout, ValuesStandWhereTheArrangementSays) {
  const LayoutSizes sizes{.heads = 2, .kv_heads = 1, .experts = 3, .nope = 3, .v = 5};
  const auto at = [&](Arrange how, Shape hf, Shape gguf_index) {
    const auto layout = layout_of_hf(how, hf, sizes);
    EXPECT_TRUE(layout);
    int64_t row = 0;
    for (size_t i = 0; i + 1 < gguf_index.size(); ++i) row = row * layout->gguf_shape[i] + gguf_index[i];
    return layout->start_of(row) + gguf_index.back() * layout->stride();
  };
  const auto flat = [](Shape shape, Shape index) {
    int64_t out = 0;
    for (size_t i = 0; i < shape.size(); ++i) out = out * shape[i] + index[i];
    return out;
  };
  for (int64_t e = 0; e < 3; ++e)
    for (int64_t j = 0; j < 4; ++j)
      for (int64_t i = 0; i < 6; ++i) {
        EXPECT_EQ(at(Arrange::first_half, {3, 8, 6}, {e, j, i}), flat({3, 8, 6}, {e, j, i}));
        EXPECT_EQ(at(Arrange::second_half, {3, 8, 6}, {e, j, i}), flat({3, 8, 6}, {e, 4 + j, i}));
        EXPECT_EQ(at(Arrange::even_columns, {3, 6, 8}, {e, j, i}), flat({3, 6, 8}, {e, i, 2 * j}));
        EXPECT_EQ(at(Arrange::odd_columns, {3, 6, 8}, {e, j, i}), flat({3, 6, 8}, {e, i, 2 * j + 1}));
        EXPECT_EQ(at(Arrange::transposed, {3, 6, 4}, {e, j, i}), flat({3, 6, 4}, {e, i, j}));
        EXPECT_EQ(at(Arrange::split_rows, {12, 6}, {e, j, i}), flat({12, 6}, {4 * e + j, i}));
        EXPECT_EQ(at(Arrange::split_transposed, {18, 4}, {e, j, i}), flat({18, 4}, {6 * e + i, j}));
        EXPECT_EQ(at(Arrange::odd_columns, {3, 8}, {e, j}), flat({3, 8}, {e, 2 * j + 1}));
      }
  for (int64_t h = 0; h < 2; ++h)
    for (int64_t r = 0; r < 4; ++r) {
      for (int64_t j = 0; j < 3; ++j) EXPECT_EQ(at(Arrange::latent_keys, {16, 4}, {h, r, j}), flat({16, 4}, {8 * h + j, r}));
      for (int64_t j = 0; j < 5; ++j)
        EXPECT_EQ(at(Arrange::latent_values, {16, 4}, {h, j, r}), flat({16, 4}, {8 * h + 3 + j, r}));
      for (int64_t half = 0; half < 2; ++half) {  // file row 2 j + half of a head of 4
        const auto layout = *layout_of_hf(Arrange::query_rows, {8, 6}, sizes);
        EXPECT_EQ(layout.start_of(4 * h + 2 * (r / 2) + half), 6 * (4 * h + 2 * half + r / 2));
      }
    }
  EXPECT_FALSE(layout_of_hf(Arrange::query_rows, {6, 6}, sizes));
  EXPECT_FALSE(layout_of_hf(Arrange::split_rows, {10, 6}, sizes));
  EXPECT_FALSE(layout_of_gguf(Arrange::latent_keys, {2, 4, 4}, sizes));
  EXPECT_FALSE(layout_of_gguf(Arrange::split_rows, {INT64_MAX, 2, 0}, sizes));
  EXPECT_FALSE(layout_of_gguf(Arrange::plain, {0, 2, INT64_MAX}, sizes));  // no values, but strides beyond any number
}

}  // namespace value_layout
}  // namespace
}  // namespace switchyard::io
