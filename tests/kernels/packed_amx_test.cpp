// The AMX tile kernels of packed weights, on the CPU and on a model of its tiles, against loops over what is stored.
#include <algorithm>

#include "amx_test.h"
#include "kernels/packed/stage.h"

namespace switchyard::kernels::packed {

extern const TileKernel kModelTiles[4];  // tile_model_avx512.cpp

namespace amx_test {
namespace {

float from_bf16(const char* p) {
  uint16_t half;
  std::memcpy(&half, p, 2);
  const uint32_t bits = static_cast<uint32_t>(half) << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

// Rows in a kernel's form and strips. The last strip has outputs that are padding.
struct Product {
  Product(const TileKernel& kernel, WeightFormat format, int64_t rows, int64_t strips, int64_t k, int64_t group = 0, int64_t experts = 1)
      : kernel(kernel), w(format, experts, 16 * strips - 5, k, RowOrder::as_stored, group), store(kernel, w),
        memory(static_cast<size_t>(store.bytes(rows) + 64)) {
    for (int64_t e = 0; e < experts; ++e) w.pack(e, uniform_values(w.n() * k, 1 + 10 * static_cast<uint32_t>(e)).data());
    store.place(aligned(memory), rows);
    const auto x = uniform_values(rows * k, 2);
    for (int64_t r = 0; r < rows; ++r) store.write(row_kernels(), r, x.data() + r * k);
  }
  [[nodiscard]] int64_t lines() const { return w.scales_at() / kLineBytes; }
  [[nodiscard]] int64_t group_lines() const { return is_integer(w.format()) ? w.group() / steps_of_line(w.format()) : lines(); }

  // `chunk` lines at a time. Rows and strips lie in memory that ends with them.
  [[nodiscard]] Output run(int64_t row, int64_t rows, int64_t strip, int64_t strips, int64_t chunk, bool add = false) const {
    RowBlock block = store.from(row);
    const Guarded x(block.data, (rows - 1) * block.stride + w.steps() * (kernel.form == RowForm::int8 ? 1 : 2));
    const Guarded lines_of_strips(w.strip(0, strip), strips * w.strip_bytes());
    block.data = x.data();
    Output c(rows, 16 * strips, 3);
    for (int64_t line = 0; line < lines(); line += chunk)
      kernel.multiply({.rows = block, .num_rows = rows, .strips = lines_of_strips.data(), .strip_bytes = w.strip_bytes(), .num_strips = strips,
                       .scales_at = w.scales_at(), .line0 = line, .line1 = std::min(line + chunk, lines()), .group_lines = group_lines(), .c = c.data(),
                       .ldc = c.ld(), .add = add || line > 0});
    return c;
  }

  const TileKernel& kernel;
  PackedWeights w;
  RowStore store;
  std::vector<char> memory;
};

int stored_value(const char* strip, int64_t step, int64_t output) {
  return static_cast<uint8_t>(strip[step / 4 * kLineBytes + output * 4 + step % 4]) - kInt8Offset;
}

// Integers are exact inside a group, and groups are added in order: the result is known to the last bit.
float integer_result(const Product& p, const char* strip, int64_t r, int64_t j, float sum) {
  const RowBlock rows = p.store.from(r);
  for (int64_t g = 0; g < p.w.groups(); ++g) {
    int64_t dot = 0;
    for (int64_t s = g * p.w.group(); s < std::min((g + 1) * p.w.group(), p.w.steps()); ++s) dot += rows.data[s] * stored_value(strip, s, j);
    sum = std::fma(static_cast<float>(dot), from_bf16(strip + p.w.scales_at() + 2 * (16 * g + j)) * rows.scales[g], sum);
  }
  return sum;
}

// At most 2^-24 of the sum of magnitudes per addition.
void expect_bfloat16_result(const Product& p, const char* strip, int64_t r, int64_t j, float start, float got) {
  const RowBlock rows = p.store.from(r);
  double sum = start, magnitude = std::abs(start);
  for (int64_t s = 0; s < p.w.steps(); ++s) {
    const double term = static_cast<double>(from_bf16(rows.data + 2 * s)) * from_bf16(strip + s / 2 * kLineBytes + 4 * j + 2 * (s % 2));
    sum += term;
    magnitude += std::abs(term);
  }
  ASSERT_NEAR(got, sum, static_cast<double>(p.w.k() + 2) * 0x1p-24 * magnitude);
}

// Of output j of an expert.
void expect_result(const Product& p, int64_t expert, int64_t r, int64_t j, float start, float got) {
  SCOPED_TRACE(testing::Message() << "row " << r << ", output " << j);
  const char* strip = p.w.strip(expert, j / 16);
  if (p.w.format() == WeightFormat::bfloat16)
    expect_bfloat16_result(p, strip, r, j % 16, start, got);
  else
    ASSERT_EQ(got, integer_result(p, strip, r, j % 16, start));
}

void expect_results(const Product& p, const Output& c, int64_t rows, int64_t strips, bool add) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t j = 0; j < 16 * strips; ++j) ASSERT_NO_FATAL_FAILURE(expect_result(p, 0, r, j, add ? c.before(r, j) : 0, c.at(r, j)));
}

class PackedOnTiles : public OnTiles {
 protected:
  void SetUp() override { skip_unless_it_runs(false); }
  static const TileKernel& kernel(WeightFormat f) { return (GetParam() == Tiles::cpu ? kAmxTiles : kModelTiles)[static_cast<int>(f)]; }
  static constexpr WeightFormat kFormats[] = {WeightFormat::bfloat16, WeightFormat::int8};
};
INSTANTIATE_TEST_SUITE_P(Where, PackedOnTiles, testing::Values(Tiles::model, Tiles::cpu), tiles_name);

TEST_P(PackedOnTiles, EqualLoopsForAnyLengthAlsoAdded) {
  for (const WeightFormat format : kFormats)
    for (const int64_t k : {1, 31, 64, 65, 130, 515})
      for (const bool add : {false, true}) {
        SCOPED_TRACE(testing::Message() << name_of(format) << ", k " << k << (add ? ", added" : ""));
        const Product p(kernel(format), format, 40, 5, k, is_integer(format) ? 128 : 0);
        for (const int64_t rows : {3, 40}) ASSERT_NO_FATAL_FAILURE(expect_results(p, p.run(0, rows, 0, 5, p.lines(), add), rows, 5, add));
      }
}

// The last group is short.
TEST_P(PackedOnTiles, EqualLoopsForAnyGroup) {
  for (const int64_t group : {64, 192, 320, 1088})
    for (const int64_t rows : {1, 16, 17, 70}) {
      SCOPED_TRACE(testing::Message() << "group " << group << ", rows " << rows);
      const Product p(kernel(WeightFormat::int8), WeightFormat::int8, rows, 5, 1700, group);
      ASSERT_NO_FATAL_FAILURE(expect_results(p, p.run(0, rows, 0, 5, p.lines(), true), rows, 5, true));
    }
}

TEST_P(PackedOnTiles, IntegersHaveTheBitsOfVectors) {
  if (!cpu_has(Isa::vnni)) GTEST_SKIP() << "this CPU has no VNNI";
  constexpr WeightFormat kInt8 = WeightFormat::int8;
  for (const int64_t rows : {5, 70}) {
    const Product tiles(kernel(kInt8), kInt8, rows, 5, 1700), vectors(kVnniTiles[static_cast<int>(kInt8)], kInt8, rows, 5, 1700);
    const Output on_tiles = tiles.run(0, rows, 0, 5, tiles.lines(), true), on_vectors = vectors.run(0, rows, 0, 5, vectors.lines(), true);
    for (int64_t r = 0; r < rows; ++r) ASSERT_EQ(0, std::memcmp(on_tiles.row(r), on_vectors.row(r), 64 * 5)) << "row " << r;
  }
}

TEST_P(PackedOnTiles, AnyRowsAndStripsHaveTheBitsOfTheWholeAndTouchNothingElse) {
  for (const WeightFormat format : kFormats) {
    const Product p(kernel(format), format, 126, 6, 200, is_integer(format) ? 128 : 0);
    const Output whole = p.run(0, 126, 0, 6, p.lines());
    ASSERT_NO_FATAL_FAILURE(expect_results(p, whole, 126, 6, false));
    for (const int64_t rows : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 31, 32, 33, 40, 48, 49, 126})
      for (int64_t strips = 1; strips <= 6; ++strips) {
        const int64_t row = (126 - rows) / 2, strip = (6 - strips) / 2;
        const Output part = p.run(row, rows, strip, strips, p.lines());
        part.expect_rest_untouched();
        for (int64_t r = 0; r < rows; ++r)
          ASSERT_EQ(0, std::memcmp(part.row(r), whole.row(row + r) + 16 * strip, static_cast<size_t>(64 * strips)))
              << name_of(format) << ", " << rows << " rows, " << strips << " strips, row " << r;
      }
  }
}

TEST_P(PackedOnTiles, ChunksOfLinesHaveTheBitsOfTheWhole) {
  for (const WeightFormat format : kFormats) {
    const Product p(kernel(format), format, 40, 3, 515, is_integer(format) ? 128 : 0);  // the last group is a half
    const int64_t unit = is_integer(format) ? p.group_lines() : 16;
    for (const int64_t rows : {5, 40}) {
      const Output whole = p.run(0, rows, 0, 3, p.lines());
      for (const int64_t units : {1, 2, 3}) {
        const Output chunks = p.run(0, rows, 0, 3, units * unit);
        chunks.expect_rest_untouched();
        for (int64_t r = 0; r < rows; ++r) ASSERT_EQ(0, std::memcmp(chunks.row(r), whole.row(r), 64 * 3)) << name_of(format) << ", " << units << ", row " << r;
      }
    }
  }
}

// Through the loop that drives kernels: blocks of rows, strips that fit the memory of a piece, chunks of lines.
TEST_P(PackedOnTiles, ADrivenPieceHasTheBitsOfTheWhole) {
  for (const WeightFormat format : kFormats) {
    const int64_t rows = 430, strips = 11, k = kernel(format).block_lines * steps_of_line(format) + 100;  // two blocks, two chunks
    const Product p(kernel(format), format, rows, strips, k);
    const Output whole = p.run(0, rows, 0, strips, p.lines());
    std::vector<float> c(piece_floats(kernel(format)));
    int64_t seen = 0;
    multiply_piece(p.kernel, p.w, p.store, 0, {0, 0, rows}, 0, strips, c.data(),
                   [&](int64_t row, int64_t n, int64_t strip, int64_t some, const float* z, int64_t ldz) {
                     seen += n * some;
                     for (int64_t r = 0; r < n; ++r)
                       ASSERT_EQ(0, std::memcmp(z + r * ldz, whole.row(row + r) + 16 * strip, static_cast<size_t>(64 * some))) << row + r;
                   });
    EXPECT_EQ(seen, rows * strips);
  }
}

// However many rows a unit has: its blocks fit the memory of a piece, and the last one is no small rest that reads all weights.
TEST_P(PackedOnTiles, BlocksOfRowsAreEven) {
  for (const WeightFormat format : kFormats)
    for (int64_t rows = 1; rows < 5000; ++rows) {
      const int64_t block = rows_at_a_time(kernel(format), rows), blocks = (rows + block - 1) / block;
      ASSERT_LE(2 * kStrip * block, piece_floats(kernel(format))) << rows;
      ASSERT_GT(rows - (blocks - 1) * block, block * 3 / 4) << rows;
    }
}

// What pads a row is zeros, and nothing else changes; int8 rows are padded as they are quantised.
TEST_P(PackedOnTiles, PaddingIsClearedBehindWhatIsWritten) {
  const Product p(kernel(WeightFormat::bfloat16), WeightFormat::bfloat16, 2, 1, 41);  // 64 steps, of which three strips are written
  auto* row = reinterpret_cast<uint16_t*>(p.store.data(0));
  std::fill_n(row, 2 * p.store.stride() / 2, uint16_t{0xffff});
  p.store.clear_behind(0, 48);
  for (int64_t i = 0; i < p.store.stride(); ++i) EXPECT_EQ(row[i], i >= 48 && i < 64 ? 0 : 0xffff) << i;
}

// Experts of no rows, of few and of many: each with its own strips.
TEST_P(PackedOnTiles, PiecesOfExpertsEqualLoops) {
  for (const WeightFormat format : kFormats) {
    SCOPED_TRACE(name_of(format));
    const std::vector<Unit> units{{1, 0, 1}, {2, 1, 38}, {4, 38, 43}};  // of experts 0 and 3 nobody asks
    const Product p(kernel(format), format, 43, 3, 300, 0, 5);
    std::vector<Piece> pieces;
    cut_units(units, p.w, 2, pieces);
    std::vector<float> c(piece_floats(kernel(format)));
    int64_t seen = 0;
    for (const Piece& piece : pieces) {
      const Unit& unit = units[static_cast<size_t>(piece.unit)];
      multiply_piece(p.kernel, p.w, p.store, 0, unit, piece.strip0, piece.strip1, c.data(),
                     [&](int64_t row, int64_t n, int64_t strip, int64_t strips, const float* z, int64_t ldz) {
                       seen += n * strips;
                       for (int64_t r = 0; r < n; ++r)
                         for (int64_t j = 0; j < 16 * strips; ++j)
                           ASSERT_NO_FATAL_FAILURE(expect_result(p, unit.expert, row + r, 16 * strip + j, 0, z[r * ldz + j]));
                     });
    }
    EXPECT_EQ(seen, 43 * 3);
  }
}

TEST_P(PackedOnTiles, NotANumberInARowStaysInThatRow) {
  for (const WeightFormat format : kFormats) {
    Product p(kernel(format), format, 3, 2, 100);
    auto x = uniform_values(100, 4);
    x[17] = NAN;
    p.store.write(row_kernels(), 1, x.data());
    const Output c = p.run(0, 3, 0, 2, p.lines());
    for (int64_t r = 0; r < 3; ++r)
      for (int64_t j = 0; j < 27; ++j) EXPECT_EQ(std::isnan(c.at(r, j)), r == 1) << name_of(format) << ", row " << r << ", output " << j;
  }
}

TEST(PackedTiles, FormatsWithoutTilesAreLeftToTheLevelsBelow) {
  for (const WeightFormat f : kAllFormats) {
    const bool tiles = f == WeightFormat::bfloat16 || f == WeightFormat::int8;
    EXPECT_EQ(kAmxTiles[static_cast<int>(f)].multiply != nullptr, tiles) << name_of(f);
    EXPECT_EQ(tile_kernel(Isa::amx, f).multiply, (tiles ? kAmxTiles[static_cast<int>(f)] : tile_kernel(Isa::vnni, f)).multiply) << name_of(f);
  }
}

}  // namespace
}  // namespace amx_test
}  // namespace switchyard::kernels::packed
