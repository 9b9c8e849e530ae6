// The model of the tile registers against formulas.
#include "tile_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <string>

namespace switchyard::kernels::amx {
namespace {

// Tile 0: [rows, columns], tile 1: [rows, 4 * depth bytes], tile 2: [depth, columns].
TileConfig shapes(int rows, int columns, int depth) {
  TileConfig c;
  const int row[] = {rows, rows, depth}, bytes[] = {4 * columns, 4 * depth, 4 * columns};
  for (int i = 0; i < 3; ++i) c.rows[i] = static_cast<uint8_t>(row[i]), c.row_bytes[i] = static_cast<uint16_t>(bytes[i]);
  return c;
}

uint16_t bfloat16(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return static_cast<uint16_t>(bits >> 16);
}

const int kShapes[][3] = {{16, 16, 16}, {1, 16, 16}, {7, 3, 5}, {16, 1, 2}};

TEST(TileModel, Int8ProductsAreSignedByUnsigned) {
  std::mt19937 random(1);
  for (const auto& [rows, columns, depth] : kShapes) {
    int8_t a[16][64];
    uint8_t b[16][64];
    int32_t c[16][16], want[16][16];
    for (auto& row : a) std::generate_n(row, 64, [&] { return static_cast<int8_t>(random()); });
    for (auto& row : b) std::generate_n(row, 64, [&] { return static_cast<uint8_t>(random()); });
    for (auto& row : c) std::generate_n(row, 16, [&] { return static_cast<int32_t>(random() >> 8); });
    std::memcpy(want, c, sizeof c);
    for (int m = 0; m < rows; ++m)
      for (int n = 0; n < columns; ++n)
        for (int p = 0; p < 4 * depth; ++p) want[m][n] += a[m][p] * b[p / 4][4 * n + p % 4];
    configure(shapes(rows, columns, depth));
    load<0>(c, 64), load<1>(a, 64), load<2>(b, 64);
    add_int8_product<0, 1, 2>();
    store<0>(c, 64);
    release();
    EXPECT_EQ(0, std::memcmp(c, want, sizeof c)) << rows << " x " << columns << " x " << depth;  // also what lies around the tile
  }
}

TEST(TileModel, Bfloat16ProductsOfWholeNumbersAreExact) {
  std::mt19937 random(2);
  for (const auto& [rows, columns, depth] : kShapes) {
    float a[16][32], b[32][16], c[16][16], want[16][16];
    uint16_t a_bits[16][32], b_bits[16][32];
    const auto whole = [&] { return static_cast<float>(static_cast<int>(random() % 255) - 127); };
    for (auto& row : a) std::generate_n(row, 32, whole);
    for (auto& row : b) std::generate_n(row, 16, whole);
    for (auto& row : c) std::generate_n(row, 16, whole);
    for (int m = 0; m < 16; ++m)
      for (int p = 0; p < 32; ++p) a_bits[m][p] = bfloat16(a[m][p]);
    for (int p = 0; p < 32; ++p)
      for (int n = 0; n < 16; ++n) b_bits[p / 2][2 * n + p % 2] = bfloat16(b[p][n]);
    std::memcpy(want, c, sizeof c);
    for (int m = 0; m < rows; ++m)
      for (int n = 0; n < columns; ++n)
        for (int p = 0; p < 2 * depth; ++p) want[m][n] += a[m][p] * b[p][n];
    configure(shapes(rows, columns, depth));
    load<0>(c, 64), load<1>(a_bits, 64), load<2>(b_bits, 64);
    add_bfloat16_product<0, 1, 2>();
    store<0>(c, 64);
    release();
    EXPECT_EQ(0, std::memcmp(c, want, sizeof c)) << rows << " x " << columns << " x " << depth;
  }
}

// 2^24 + 1 is no float32: in one chain the first of the two ones would be lost.
TEST(TileModel, EvenAndOddStepsAreSummedApart) {
  const float large = 0x1p24f;
  const uint16_t a[] = {bfloat16(large), bfloat16(1), bfloat16(-large), bfloat16(1)}, b[2][2] = {{0x3f80, 0x3f80}, {0x3f80, 0x3f80}};
  float c = 0.5f;
  configure(shapes(1, 1, 2));
  load<0>(&c, 4), load<1>(a, 8), load<2>(b, 4);
  add_bfloat16_product<0, 1, 2>();
  store<0>(&c, 4);
  release();
  EXPECT_EQ(c, 2.5f);
}

TEST(TileModel, ConfiguringAndZeroingClear) {
  int32_t ones[16][16], out[16][16];
  for (auto& row : ones) std::fill_n(row, 16, 1);
  configure(TileConfig{});
  load<5>(ones, 64);
  zero<5>();
  store<5>(out, 64);
  EXPECT_EQ(0, std::count_if(out[0], out[0] + 256, [](int32_t x) { return x != 0; }));
  load<5>(ones, 64);
  configure(TileConfig{});
  store<5>(out, 64);
  EXPECT_EQ(0, std::count_if(out[0], out[0] + 256, [](int32_t x) { return x != 0; }));
  release();
}

TEST(TileModel, WrongUseIsAFault) {
  const auto fault = [](auto use) -> std::string {
    try {
      use();
    } catch (const Fault& f) {
      return f.rule;
    }
    return "";
  };
  const auto with = [](int tile, int rows) {
    TileConfig c = shapes(3, 3, 3);
    c.rows[tile] = static_cast<uint8_t>(rows);
    return c;
  };
  release();
  EXPECT_EQ(fault([] { zero<0>(); }), "a tile is used that is not configured");
  EXPECT_EQ(fault([&] { configure(with(1, 17)); }), "a tile has at most 16 rows of 64 bytes");
  EXPECT_EQ(fault([&] { configure(with(1, 0)); }), "a tile has rows and columns or neither");
  EXPECT_EQ(fault([&] { configure(with(8, 1)); }), "there are eight tiles");
  EXPECT_EQ(fault([&] { configure(with(1, 4)), add_int8_product<0, 1, 2>(); }), "shapes of a product fit");
  EXPECT_EQ(fault([&] { configure(with(2, 2)), add_bfloat16_product<0, 1, 2>(); }), "shapes of a product fit");
  EXPECT_EQ(fault([&] { configure(with(2, 3)), add_bfloat16_product<0, 1, 2>(), release(); }), "");
}

}  // namespace
}  // namespace switchyard::kernels::amx
