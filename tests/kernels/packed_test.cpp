// Packed weights: what is stored, products of every format and instruction set against loops in float64 over what the packed
// weights stand for, and the promise of equal bits.
#include <gtest/gtest.h>
#include <omp.h>
#include <sys/mman.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

#include "kernels/bf16.h"
#include "kernels/packed/expert_ffn.h"
#include "kernels/packed/product.h"
#include "kernels/packed/stage.h"
#include "kernels/scratch.h"
#include "per_isa_test.h"
#include "switchyard/error.h"

namespace switchyard::kernels::packed {
namespace {

std::vector<float> uniform_values(int64_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> x(static_cast<size_t>(n));
  for (float& value : x) value = std::ldexp(static_cast<float>(random() >> 8), -23) - 1.0f;  // in [-1, 1)
  return x;
}

PackedWeights packed_from(const std::vector<float>& w, WeightFormat format, int64_t experts, int64_t n, int64_t k, RowOrder order = RowOrder::as_stored,
                          int64_t group = 0) {
  PackedWeights p(format, experts, n, k, order, group);
  for (int64_t e = 0; e < experts; ++e) p.pack(e, w.data() + e * n * k);
  return p;
}

std::vector<float> unpacked(const PackedWeights& p) {
  std::vector<float> w(static_cast<size_t>(p.experts() * p.n() * p.k()));
  for (int64_t e = 0; e < p.experts(); ++e)
    for (int64_t r = 0; r < p.n(); ++r) p.unpack_row(e, r, w.data() + (e * p.n() + r) * p.k());
  return w;
}

// The rows as a kernel of the format sees them, in float64.
std::vector<double> seen_rows(const std::vector<float>& x, const PackedWeights& w, RowForm form) {
  std::vector<double> seen(x.begin(), x.end());
  const int64_t k = w.k();
  for (size_t first = 0; first < x.size(); first += static_cast<size_t>(k))
    for (int64_t begin = 0; begin < k; begin += w.group()) {
      const int64_t end = std::min(begin + w.group(), k);
      float most = 0;
      for (int64_t p = begin; p < end; ++p) most = std::max(most, std::abs(x[first + static_cast<size_t>(p)]));
      for (int64_t p = begin; p < end; ++p) {
        double& value = seen[first + static_cast<size_t>(p)];
        if (form == RowForm::bfloat16) value = round_to_bf16(static_cast<float>(value));
        if (is_quantised(form)) value = most == 0 ? 0 : std::nearbyint(static_cast<float>(value) * (127.0f / most)) * static_cast<double>(most / 127.0f);
      }
    }
  return seen;
}

struct Exact {
  std::vector<double> value, magnitude;  // sum and sum of magnitudes
};

Exact exact_product(const std::vector<double>& x, const std::vector<float>& w, const std::vector<int64_t>& offsets, int64_t n, int64_t k) {
  Exact e{std::vector<double>(static_cast<size_t>(offsets.back() * n)), std::vector<double>(static_cast<size_t>(offsets.back() * n))};
  for (size_t expert = 0; expert + 1 < offsets.size(); ++expert)
    for (int64_t r = offsets[expert]; r < offsets[expert + 1]; ++r)
      for (int64_t j = 0; j < n; ++j)
        for (int64_t p = 0; p < k; ++p) {
          const double term = x[static_cast<size_t>(r * k + p)] * w[static_cast<size_t>((static_cast<int64_t>(expert) * n + j) * k + p)];
          e.value[static_cast<size_t>(r * n + j)] += term;
          e.magnitude[static_cast<size_t>(r * n + j)] += std::abs(term);
        }
  return e;
}

struct Level {
  Isa isa;
  WeightFormat format;
};
std::ostream& operator<<(std::ostream& out, const Level& l) { return out << name_of(l.isa) << "_" << name_of(l.format); }

std::vector<Level> all_levels() {
  std::vector<Level> levels;
  for (const Isa isa : kAllIsas)
    if (cpu_has(isa))
      for (const WeightFormat f : kAllFormats) levels.push_back({isa, f});
  return levels;
}

class PackedLevel : public testing::TestWithParam<Level> {
 protected:
  ScopedIsa isa_{GetParam().isa};
  WeightFormat format_ = GetParam().format;
};
INSTANTIATE_TEST_SUITE_P(Levels, PackedLevel, testing::ValuesIn(all_levels()),
                         [](const auto& info) { return std::string(name_of(info.param.isa)) + "_" + std::string(name_of(info.param.format)); });

TEST(PackedWeights, FloatsAreKeptAndBfloat16IsRounded) {
  for (const RowOrder order : {RowOrder::as_stored, RowOrder::gate_then_up, RowOrder::gate_up_alternating}) {
    const auto w = uniform_values(2 * 38 * 45, 1);
    EXPECT_EQ(unpacked(packed_from(w, WeightFormat::float32, 2, 38, 45, order)), w);
    auto rounded = w;
    for (float& x : rounded) x = round_to_bf16(x);
    EXPECT_EQ(unpacked(packed_from(w, WeightFormat::bfloat16, 2, 38, 45, order)), rounded);
  }
}

// A scale of max / 127 (or max / 8 with the sign that is used more) leaves at most half a step, and a scale is rounded to 8 bits.
TEST(PackedWeights, IntegersAreWithinHalfAStep) {
  for (const RowOrder order : {RowOrder::as_stored, RowOrder::gate_then_up, RowOrder::gate_up_alternating})
    for (const int64_t group : {64, 128}) {
      const int64_t n = 22, k = 333;
      const auto w = uniform_values(n * k, 2);
      const auto int8 = unpacked(packed_from(w, WeightFormat::int8, 1, n, k, order, group));
      const auto int4 = unpacked(packed_from(w, WeightFormat::int4, 1, n, k, order, group));
      for (int64_t r = 0; r < n; ++r)
        for (int64_t begin = 0; begin < k; begin += group) {
          const int64_t end = std::min(begin + group, k);
          double most = 0, squared = 0, squared4 = 0;
          for (int64_t i = r * k + begin; i < r * k + end; ++i) most = std::max(most, static_cast<double>(std::abs(w[static_cast<size_t>(i)])));
          for (auto i = static_cast<size_t>(r * k + begin); i < static_cast<size_t>(r * k + end); ++i) {
            EXPECT_NEAR(int8[i], w[i], most / 127 * 0.5 * (1 + 1 / 256.0) + most / 256.0 * (std::abs(w[i]) == most));
            squared4 += (int4[i] - w[i]) * (int4[i] - w[i]);
            squared += w[i] * w[i];
          }
          // Uniform values with 15 levels: the error is 1 / (sqrt 12 * 7.5) of the range, so 0.077 of the root mean square.
          EXPECT_LE(std::sqrt(squared4 / squared), 0.095);
        }
    }
}

TEST(PackedWeights, ZerosStayZeros) {
  for (const WeightFormat f : kAllFormats) {
    const std::vector<float> zeros(32 * 70);
    EXPECT_EQ(unpacked(packed_from(zeros, f, 1, 32, 70)), zeros) << name_of(f);
  }
}

TEST(PackedWeights, BytesAreThoseOfTheFormat) {
  EXPECT_EQ(PackedWeights(WeightFormat::float32, 3, 32, 128).bytes(), 3 * 32 * 128 * 4);
  EXPECT_EQ(PackedWeights(WeightFormat::bfloat16, 3, 32, 128).bytes(), 3 * 32 * 128 * 2);
  EXPECT_EQ(PackedWeights(WeightFormat::int8, 3, 32, 1024).bytes(), 3 * 32 * (1024 + 2 * 2));     // a scale per 512
  EXPECT_EQ(PackedWeights(WeightFormat::int4, 3, 32, 1024).bytes(), 3 * 32 * (1024 / 2 + 16 * 2));  // a scale per 64
}

TEST(PackedWeights, WrongSizesAndNamesAreNamed) {
  EXPECT_THROW(PackedWeights(WeightFormat::int8, 1, 16, 64, RowOrder::as_stored, 48), Error);
  EXPECT_THROW(PackedWeights(WeightFormat::bfloat16, 1, 16, 64, RowOrder::as_stored, 64), Error);
  EXPECT_THROW(PackedWeights(WeightFormat::bfloat16, 1, 15, 64, RowOrder::gate_then_up), Error);
  EXPECT_THROW(PackedWeights(WeightFormat::bfloat16, 0, 16, 64), Error);
  EXPECT_EQ(parse_weight_format("bf16"), WeightFormat::bfloat16);
  try {
    static_cast<void>(parse_weight_format("fp8"));
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("'fp8'"), std::string::npos);
    EXPECT_NE(std::string(e.what()).find("int4"), std::string::npos);
  }
}

// float32 sums of k terms: at most k roundings of the sum of magnitudes; integer formats round once or twice per group.
TEST_P(PackedLevel, ProductEqualsLoopsOverWhatIsStored) {
  for (const auto& rows : std::vector<std::vector<int64_t>>{{1}, {0, 1, 3}, {5, 0, 0, 17}, {2, 29}, {0, 0}, {140, 3}})
    for (const auto& [n, k] : std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {33, 70}, {16, 64}, {90, 259}}) {
      const auto experts = static_cast<int64_t>(rows.size());
      std::vector<int64_t> offsets(1, 0);
      for (const int64_t r : rows) offsets.push_back(offsets.back() + r);
      const auto w = packed_from(uniform_values(experts * n * k, 3), format_, experts, n, k, RowOrder::as_stored, is_integer(format_) ? 128 : 0);
      const auto x = uniform_values(offsets.back() * k, 4);
      std::vector<float> c(static_cast<size_t>(offsets.back() * n), NAN);
      packed_product({.w = &w, .offsets = offsets.data(), .a = x.data(), .c = c.data()});
      const auto want = exact_product(seen_rows(x, w, tile_kernel(selected_isa(), format_).form), unpacked(w), offsets, n, k);
      for (size_t i = 0; i < c.size(); ++i)
        ASSERT_NEAR(c[i], want.value[i], static_cast<double>(k + 4) * 0x1p-24 * want.magnitude[i] + 1e-30) << "n " << n << " k " << k << " element " << i;
    }
}

// Columns come out in the order of the stored rows, however the strips lie.
TEST_P(PackedLevel, ProductsDoNotDependOnTheOrderOfRows) {
  const int64_t n = 58, k = 70;
  const auto matrix = uniform_values(2 * n * k, 21), x = uniform_values(7 * k, 22);
  const std::vector<int64_t> offsets{0, 3, 7};
  std::vector<std::vector<float>> results;
  for (const RowOrder order : {RowOrder::as_stored, RowOrder::gate_then_up, RowOrder::gate_up_alternating}) {
    const auto w = packed_from(matrix, format_, 2, n, k, order);
    results.emplace_back(static_cast<size_t>(7 * n), NAN);
    packed_product({.w = &w, .offsets = offsets.data(), .a = x.data(), .c = results.back().data()});
  }
  EXPECT_EQ(results[1], results[0]);
  EXPECT_EQ(results[2], results[0]);
}

TEST_P(PackedLevel, LongContractionsGoInPieces) {
  const int64_t n = 32, k = 4100 * steps_of_line(format_);  // more lines than a high block takes at a time
  const auto w = packed_from(uniform_values(n * k, 5), format_, 1, n, k);
  const std::vector<int64_t> offsets{0, 40};
  const auto x = uniform_values(40 * k, 6);
  std::vector<float> c(40 * 32), one(32);
  packed_product({.w = &w, .offsets = offsets.data(), .a = x.data(), .c = c.data()});
  const auto want = exact_product(seen_rows(x, w, tile_kernel(selected_isa(), format_).form), unpacked(w), offsets, n, k);
  for (size_t i = 0; i < c.size(); ++i) ASSERT_NEAR(c[i], want.value[i], static_cast<double>(k) * 0x1p-24 * want.magnitude[i]) << i;
}

TEST_P(PackedLevel, RowsDoNotDependOnTheirNeighboursOrOnThreads) {
  const int64_t n = 70, k = 2200, most = 150;
  const auto w = packed_from(uniform_values(n * k, 7), format_, 1, n, k);
  const auto x = uniform_values(most * k, 8);
  const std::vector<int64_t> all{0, most};
  std::vector<float> whole(static_cast<size_t>(most * n));
  packed_product({.w = &w, .offsets = all.data(), .a = x.data(), .c = whole.data()});
  for (const int64_t rows : {1, 2, 3, 4, 5, 6, 7, 9, 13, 14, 15, 16, 17, 31}) {
    for (const int threads : {1, 2, 3}) {
      const int before = omp_get_max_threads();
      omp_set_num_threads(threads);
      const std::vector<int64_t> offsets{0, rows};
      std::vector<float> part(static_cast<size_t>(rows * n));
      packed_product({.w = &w, .offsets = offsets.data(), .a = x.data() + 11 * k, .c = part.data()});
      omp_set_num_threads(before);
      ASSERT_EQ(0, std::memcmp(part.data(), whole.data() + 11 * n, part.size() * sizeof(float))) << rows << " rows, " << threads << " threads";
    }
  }
}

// Memory whose last byte lies in front of a page that cannot be read.
class GuardedMemory {
 public:
  explicit GuardedMemory(int64_t bytes) : mapped_((static_cast<size_t>(bytes) + 4095) / 4096 * 4096 + 4096) {
    block_ = static_cast<char*>(::mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ::mprotect(block_ + mapped_ - 4096, 4096, PROT_NONE);
    data = block_ + mapped_ - 4096 - bytes;
  }
  ~GuardedMemory() { ::munmap(block_, mapped_); }
  GuardedMemory(const GuardedMemory&) = delete;
  GuardedMemory& operator=(const GuardedMemory&) = delete;
  char* data;

 private:
  size_t mapped_;
  char* block_;
};

TEST_P(PackedLevel, NothingBehindStripsAndOutputsIsTouched) {
  for (const int64_t k : {64, 259})
    for (const int64_t strips : {1, 2, 3, 7})
      for (const int64_t rows : {1, 3, 14, 33}) {
        const auto w = packed_from(uniform_values(strips * kStrip * k, 19), format_, 1, strips * kStrip, k);
        const TileKernel kernel = tile_kernel(selected_isa(), format_);
        const GuardedMemory guarded(w.expert_bytes()), outputs(rows * strips * kStrip * 4);
        std::memcpy(guarded.data, w.strip(0, 0), static_cast<size_t>(w.expert_bytes()));
        RowStore store(kernel, w);
        std::vector<char> memory(static_cast<size_t>(store.bytes(rows)) + 64);
        store.place(memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64), rows);
        const auto x = uniform_values(rows * k, 20);
        for (int64_t r = 0; r < rows; ++r) store.write(row_kernels(), r, x.data() + r * k);
        const int64_t lines = w.scales_at() / kLineBytes;
        TileCall call{.rows = store.from(0), .num_rows = rows, .strips = guarded.data, .strip_bytes = w.strip_bytes(), .num_strips = strips, .scales_at = w.scales_at(),
                      .line0 = 0, .line1 = lines, .group_lines = is_integer(format_) ? w.group() / steps_of_line(format_) : 0,
                      .c = reinterpret_cast<float*>(outputs.data), .ldc = strips * kStrip};
        kernel.multiply(call);
        for (int64_t i = 0; i < rows * strips * kStrip; ++i) ASSERT_TRUE(std::isfinite(call.c[i])) << i;
      }
}

TEST_P(PackedLevel, NotANumberInARowStaysInThatRow) {
  const int64_t n = 20, k = 100;
  const auto w = packed_from(uniform_values(n * k, 9), format_, 1, n, k);
  auto x = uniform_values(3 * k, 10);
  x[static_cast<size_t>(k + 7)] = NAN;
  const std::vector<int64_t> offsets{0, 3};
  std::vector<float> c(static_cast<size_t>(3 * n));
  packed_product({.w = &w, .offsets = offsets.data(), .a = x.data(), .c = c.data()});
  for (int64_t i = 0; i < 3 * n; ++i) EXPECT_EQ(std::isnan(c[static_cast<size_t>(i)]), i / n == 1) << i;
}

// The reciprocal of a group's scale would be infinite.
TEST_P(PackedLevel, RowsCloseToZeroGiveNumbersCloseToZero) {
  const int64_t n = 20, k = 100;
  const auto w = packed_from(uniform_values(n * k, 9), format_, 1, n, k);
  auto x = uniform_values(2 * k, 10);
  for (int64_t p = 0; p < k; ++p) x[static_cast<size_t>(p)] *= 1e-38f;
  const std::vector<int64_t> offsets{0, 2};
  std::vector<float> c(static_cast<size_t>(2 * n));
  packed_product({.w = &w, .offsets = offsets.data(), .a = x.data(), .c = c.data()});
  for (int64_t i = 0; i < n; ++i) EXPECT_LT(std::abs(c[static_cast<size_t>(i)]), 1e-35f) << i;
  for (int64_t i = n; i < 2 * n; ++i) EXPECT_GT(std::abs(c[static_cast<size_t>(i)]), 1e-3f) << i;
}

// A layer's experts on packed weights.
struct Layer {
  Layer(WeightFormat format, bool gated, Activation phi, int64_t experts, int64_t d, int64_t f, int64_t top_k)
      : d_(d), f_(f), k_(top_k), gated_(gated), phi_(phi),
        in(packed_from(uniform_values(experts * (gated ? 2 : 1) * f * d, 11), format, experts, (gated ? 2 : 1) * f, d,
                       gated ? RowOrder::gate_then_up : RowOrder::as_stored)),
        out(packed_from(uniform_values(experts * d * f, 12), format, experts, d, f)) {}

  // Tokens choose experts t % E, (t + 3) % E ...; expert 1 is chosen by nobody, a third of the tokens choose expert 0 first.
  void route(int64_t tokens, int64_t first_token = 0) {
    std::vector<std::vector<std::pair<int64_t, int64_t>>> chosen(static_cast<size_t>(in.experts()));
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t j = 0; j < k_; ++j) {
        int64_t e = ((t + first_token) % 3 == 0 && j == 0) ? 0 : (t + first_token + 3 * j + 2) % in.experts();
        if (e == 1) e = 2;
        chosen[static_cast<size_t>(e)].push_back({t, t * k_ + j});
      }
    offsets.assign(1, 0);
    row_token.clear();
    weight_index.clear();
    for (const auto& list : chosen) {
      for (const auto& [t, i] : list) row_token.push_back(t), weight_index.push_back(i);
      offsets.push_back(static_cast<int64_t>(row_token.size()));
    }
  }

  std::vector<float> run(const std::vector<float>& x, const std::vector<float>& weights, int64_t first_token = 0) {
    const auto tokens = static_cast<int64_t>(x.size()) / d_;
    route(tokens, first_token);
    std::vector<float> y(static_cast<size_t>(tokens * d_), NAN);
    expert_ffn({.in = &in, .out = &out, .phi = phi_, .gated = gated_, .offsets = offsets.data(), .row_token = row_token.data(),
                .row_weight_index = weight_index.data(), .weights = weights.data(), .x = x.data(), .y = y.data(), .tokens = tokens});
    return y;
  }

  int64_t d_, f_, k_;
  bool gated_;
  Activation phi_;
  PackedWeights in, out;
  std::vector<int64_t> offsets, row_token, weight_index;
};

double phi_of(Activation phi, double z) {
  switch (phi) {
    case Activation::silu: return z / (1 + std::exp(-z));
    case Activation::gelu: return z * 0.5 * (1 + std::erf(z / std::sqrt(2.0)));
    case Activation::relu: return std::max(z, 0.0);
    default: ADD_FAILURE(); return 0;
  }
}

// Token by token in float64, without any permutation. Inner activations of integer formats are quantised as the kernel does.
std::vector<double> loop_oracle(const Layer& l, const std::vector<float>& x, const std::vector<float>& weights) {
  const int64_t d = l.d_, f = l.f_, halves = l.gated_ ? 2 : 1;
  const auto in = unpacked(l.in), out = unpacked(l.out);
  const auto seen = seen_rows(x, l.in, tile_kernel(selected_isa(), l.in.format()).form);
  std::vector<double> y(x.size());
  for (size_t row = 0; row < l.row_token.size(); ++row) {
    int64_t e = 0;
    while (l.offsets[static_cast<size_t>(e) + 1] <= static_cast<int64_t>(row)) ++e;
    std::vector<double> z(static_cast<size_t>(halves * f));
    for (int64_t i = 0; i < halves * f; ++i)
      for (int64_t p = 0; p < d; ++p)
        z[static_cast<size_t>(i)] += seen[static_cast<size_t>(l.row_token[row] * d + p)] * in[static_cast<size_t>((e * halves * f + i) * d + p)];
    std::vector<float> h(static_cast<size_t>(f));
    for (int64_t i = 0; i < f; ++i)
      h[static_cast<size_t>(i)] = static_cast<float>(phi_of(l.phi_, z[static_cast<size_t>(i)]) * (l.gated_ ? z[static_cast<size_t>(f + i)] : 1.0));
    const auto inner = seen_rows(h, l.out, tile_kernel(selected_isa(), l.out.format()).form);
    for (int64_t i = 0; i < d; ++i) {
      double sum = 0;
      for (int64_t p = 0; p < f; ++p) sum += inner[static_cast<size_t>(p)] * out[static_cast<size_t>((e * d + i) * f + p)];
      y[static_cast<size_t>(l.row_token[row] * d + i)] += weights[static_cast<size_t>(l.weight_index[row])] * sum;
    }
  }
  return y;
}

// Rounding errors of sums of d and f terms relative to the largest output; an inner activation that is rounded (int8: 1/127 of its
// group's largest, bfloat16: 2^-8 of itself) may land on the neighbouring level where the float32 sum differs from the float64 one.
TEST_P(PackedLevel, ExpertsEqualTheLoopOverTokens) {
  for (const auto& [gated, phi] : std::vector<std::pair<bool, Activation>>{{true, Activation::silu}, {false, Activation::gelu}, {true, Activation::relu}})
    for (const int64_t tokens : {1, 3, 37}) {
      Layer layer(format_, gated, phi, 5, 67, 41, 2);
      const auto x = uniform_values(tokens * 67, 13), weights = uniform_values(tokens * 2, 14);
      const auto y = layer.run(x, weights);
      const auto want = loop_oracle(layer, x, weights);
      double largest = 0, worst = 0;
      for (const double v : want) largest = std::max(largest, std::abs(v));
      for (size_t i = 0; i < y.size(); ++i) worst = std::max(worst, std::abs(y[i] - want[i]));
      EXPECT_LE(worst, (tile_kernel(selected_isa(), format_).form == RowForm::float32 ? 4e-6 : 4e-3) * largest) << "gated " << gated << ", tokens " << tokens;
    }
}

// Memory that is used again holds anything; what pads a row meets weights of zero, and NaN times zero is no zero.
TEST_P(PackedLevel, WhatWorkingMemoryHeldBeforeDoesNotMatter) {
  Layer layer(format_, true, Activation::silu, 5, 67, 41, 2);
  const auto x = uniform_values(37 * 67, 13), weights = uniform_values(37 * 2, 14);
  const auto clean = layer.run(x, weights);
  const int64_t floats = 4 << 20;
  std::memset(thread_scratch(ScratchUse::shared, floats), 0xff, sizeof(float) * floats);
  EXPECT_EQ(layer.run(x, weights), clean);
}

class PackedRows : public PerIsa {};
INSTANTIATE_TEST_SUITE_P(EveryIsa, PackedRows, vector_isas(), isa_name);
TEST_P(PackedRows, ActivationsInBfloat16AreThoseInFloat32Rounded) {
  for (const bool gated : {false, true}) {
    const int64_t rows = 3, width = 48, ldc = gated ? 2 * width : width;
    const auto c = uniform_values(rows * ldc, 23);
    std::vector<float> h(static_cast<size_t>(rows * width));
    std::vector<uint16_t> halves(static_cast<size_t>(rows * (width + 5)), 7);
    row_kernels().activate(Activation::silu, gated, rows, width, c.data(), ldc, h.data(), width);
    row_kernels().activate_to_bfloat16(Activation::silu, gated, rows, width, c.data(), ldc, reinterpret_cast<char*>(halves.data()), 2 * (width + 5));
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t i = 0; i < width + 5; ++i) {
        const uint16_t got = halves[static_cast<size_t>(r * (width + 5) + i)];
        if (i < width)
          EXPECT_EQ(std::bit_cast<float>(static_cast<uint32_t>(got) << 16), round_to_bf16(h[static_cast<size_t>(r * width + i)])) << r << ", " << i;
        else
          EXPECT_EQ(got, 7) << r << ", " << i;
      }
  }
}

TEST_P(PackedRows, AWidenedRowHasItsBytesInPairs) {
  for (const int64_t steps : {16, 64, 192}) {
    std::vector<int8_t> row(static_cast<size_t>(2 * steps + 1), 99);
    for (int64_t p = 0; p < steps; ++p) row[static_cast<size_t>(steps + p)] = static_cast<int8_t>(p * 37 % 255 - 127);
    row_kernels().widen(steps, reinterpret_cast<char*>(row.data()));
    for (int64_t p = 0; p < steps; ++p) {
      const int64_t place = p / 4 * 4 + p % 2 * 2 + p % 4 / 2;
      int16_t got;
      std::memcpy(&got, row.data() + 2 * place, 2);
      EXPECT_EQ(got, p * 37 % 255 - 127) << "step " << p << " of " << steps;
    }
    EXPECT_EQ(row.back(), 99);
  }
}

TEST_P(PackedLevel, ExpertsGiveTheSameBitsForAnySplitAndThreads) {
  Layer layer(format_, true, Activation::silu, 5, 130, 90, 2);
  const int64_t tokens = 61, d = 130;
  const auto x = uniform_values(tokens * d, 15), weights = uniform_values(tokens * 2, 16);
  const auto whole = layer.run(x, weights);
  for (const int64_t piece : {1, 7, 20}) {
    for (const int threads : {1, 2, 3}) {
      const int before = omp_get_max_threads();
      omp_set_num_threads(threads);
      std::vector<float> y;
      for (int64_t t = 0; t < tokens; t += piece) {
        const int64_t end = std::min(t + piece, tokens);
        const auto part = layer.run({x.begin() + t * d, x.begin() + end * d}, {weights.begin() + 2 * t, weights.begin() + 2 * end}, t);
        y.insert(y.end(), part.begin(), part.end());
      }
      omp_set_num_threads(before);
      ASSERT_EQ(0, std::memcmp(y.data(), whole.data(), y.size() * sizeof(float))) << "pieces of " << piece << ", " << threads << " threads";
    }
  }
}

// More rows than are alive at once: the same bits as token by token.
TEST_P(PackedLevel, ManyRowsGoInRounds) {
  Layer layer(format_, true, Activation::silu, 3, 96, 1024, 2);
  const int64_t tokens = 7000, d = 96;  // 14000 rows of about 4.5 KB
  const auto x = uniform_values(tokens * d, 17), weights = uniform_values(tokens * 2, 18);
  const auto whole = layer.run(x, weights);
  for (const int64_t t : {0, 1, 3499, 5000, 6999}) {
    const auto one = layer.run({x.begin() + t * d, x.begin() + (t + 1) * d}, {weights.begin() + 2 * t, weights.begin() + 2 * t + 2}, t);
    EXPECT_EQ(0, std::memcmp(one.data(), whole.data() + t * d, sizeof(float) * static_cast<size_t>(d))) << t;
  }
}

}  // namespace
}  // namespace switchyard::kernels::packed
