#include "kernels/grouped_gemm.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <ostream>
#include <random>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "kernels/bf16.h"
#include "kernels/isa.h"

namespace switchyard::kernels {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

struct Case {
  GemmForm form;
  std::vector<int64_t> rows;  // per expert
  int64_t width;              // k of nt and nn, m of tn
  int64_t n;
  bool accumulate = false;
};

const char* word(GemmForm form) { return form == GemmForm::nt ? "nt" : form == GemmForm::nn ? "nn" : "tn"; }

std::ostream& operator<<(std::ostream& out, const Case& c) {
  out << word(c.form) << (c.accumulate ? " +=" : "") << " rows";
  for (const int64_t r : c.rows) out << ' ' << r;
  return out << ", " << (c.form == GemmForm::tn ? "m " : "k ") << c.width << ", n " << c.n;
}

// Operands of a case and the call over them.
struct Data {
  Data(const Case& c, GemmCompute compute, uint32_t seed = 7) : offsets(1, 0) {
    for (const int64_t r : c.rows) offsets.push_back(offsets.back() + r);
    const bool tn = c.form == GemmForm::tn;
    const int64_t rows = offsets.back(), experts = static_cast<int64_t>(c.rows.size());
    std::mt19937 random(seed);
    const auto uniform = [&] { return std::ldexp(static_cast<float>(random() >> 8), -23) - 1.0f; };  // in [-1, 1)
    const auto fill = [&](std::vector<float>& v, int64_t size) {
      v.resize(static_cast<size_t>(size));
      for (float& x : v) x = uniform();
    };
    fill(a, rows * c.width);
    fill(b, tn ? rows * c.n : experts * c.width * c.n);
    fill(out, tn ? experts * c.width * c.n : rows * c.n);
    call = {c.form, compute, c.accumulate, nullptr, nullptr, nullptr, nullptr, experts, 0, c.n, 0};
    (tn ? call.m : call.k) = c.width;
  }
  std::vector<float> run() const {
    std::vector<float> result = out;
    GroupedGemm g = call;
    g.a = a.data(), g.b = b.data(), g.c = result.data(), g.offsets = offsets.data();
    grouped_gemm(g);
    return result;
  }

  std::vector<int64_t> offsets;
  std::vector<float> a, b, out;
  GroupedGemm call;
};

// Oracle: plain loops in float64 over the rounded operands. `scale` is the sum of |a b|, to which the error is proportional.
struct Oracle {
  std::vector<double> value, scale;
};
Oracle by_loops(const Data& d) {
  const GroupedGemm& g = d.call;
  const auto at = [&](const std::vector<float>& v, int64_t i) {
    const float x = v[static_cast<size_t>(i)];
    return static_cast<double>(g.compute == GemmCompute::bfloat16 ? round_to_bf16(x) : x);
  };
  Oracle o;
  for (const float x : d.out) {
    o.value.push_back(g.accumulate ? x : 0.0);
    o.scale.push_back(g.accumulate ? std::abs(x) : 0.0);
  }
  if (g.form != GemmForm::tn && !g.accumulate) std::fill(o.value.begin(), o.value.end(), 0.0);
  const auto add = [&](int64_t i, double product) {
    o.value[static_cast<size_t>(i)] += product;
    o.scale[static_cast<size_t>(i)] += std::abs(product);
  };
  for (int64_t e = 0; e < g.experts; ++e)
    for (int64_t r = d.offsets[e]; r < d.offsets[e + 1]; ++r)
      for (int64_t j = 0; j < g.n; ++j) {
        if (g.form == GemmForm::tn)
          for (int64_t i = 0; i < g.m; ++i) add((e * g.m + i) * g.n + j, at(d.a, r * g.m + i) * at(d.b, r * g.n + j));
        for (int64_t p = 0; p < g.k; ++p) {
          const int64_t weight = g.form == GemmForm::nt ? (e * g.n + j) * g.k + p : (e * g.k + p) * g.n + j;
          add(r * g.n + j, at(d.a, r * g.k + p) * at(d.b, weight));
        }
      }
  return o;
}

// Length of the longest chain of additions.
int64_t depth_of(const Case& c) { return c.form == GemmForm::tn ? *std::max_element(c.rows.begin(), c.rows.end()) : c.width; }

// A chain of d float32 additions is off by at most (d + 1) * 2^-24 * sum |a b| (rounding of the product included; a sum that
// starts from C is one longer). Tiles round differently inside a pair of steps, which the factor 2 covers.
void expect_close(const std::vector<float>& got, const Oracle& want, int64_t depth, const std::string& what) {
  ASSERT_EQ(got.size(), want.value.size());
  const double bound = 2.0 * static_cast<double>(depth + 2) * std::ldexp(1.0, -24);
  size_t worst = 0;
  double excess = -1.0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double off = std::abs(got[i] - want.value[i]) / (want.scale[i] + 1e-30);
    if (!(off <= excess)) excess = off, worst = i;
  }
  if (!got.empty()) {
    EXPECT_LE(excess, bound) << what << ": element " << worst << " is " << got[worst] << ", want " << want.value[worst];
  }
}

class EveryVariant : public testing::TestWithParam<std::tuple<Isa, GemmCompute>> {
 protected:
  void SetUp() override {
    if (!cpu_has(isa())) GTEST_SKIP() << "this CPU has no " << name_of(isa());
  }
  static Isa isa() { return std::get<0>(GetParam()); }
  static GemmCompute compute() { return std::get<1>(GetParam()); }
};

// AMX multiplies no float32: there it is the avx512 path.
const std::tuple<Isa, GemmCompute> kFloat32[] = {
    {Isa::scalar, GemmCompute::float32}, {Isa::avx2, GemmCompute::float32}, {Isa::avx512, GemmCompute::float32}};
const std::tuple<Isa, GemmCompute> kBfloat16[] = {{Isa::scalar, GemmCompute::bfloat16},
                                                  {Isa::avx2, GemmCompute::bfloat16},
                                                  {Isa::avx512, GemmCompute::bfloat16},
                                                  {Isa::amx, GemmCompute::bfloat16}};

std::string isa_name(const testing::TestParamInfo<std::tuple<Isa, GemmCompute>>& info) {
  return std::string(name_of(std::get<0>(info.param)));
}
class EveryBfloat16Variant : public EveryVariant {};  // those that round
INSTANTIATE_TEST_SUITE_P(Float32, EveryVariant, testing::ValuesIn(kFloat32), isa_name);
INSTANTIATE_TEST_SUITE_P(Bfloat16, EveryVariant, testing::ValuesIn(kBfloat16), isa_name);
INSTANTIATE_TEST_SUITE_P(Bfloat16, EveryBfloat16Variant, testing::ValuesIn(kBfloat16), isa_name);

const GemmForm kForms[] = {GemmForm::nt, GemmForm::nn, GemmForm::tn};

std::vector<Case> awkward_cases() {
  std::vector<Case> cases;
  for (const GemmForm form : kForms)
    for (const bool accumulate : {false, true}) {
      const auto add = [&](std::vector<int64_t> rows, int64_t width, int64_t n) {
        cases.push_back({form, std::move(rows), width, n, accumulate});
      };
      add({1}, 1, 1);
      add({1}, 64, 48);
      add({3, 1, 2}, 1, 5);                 // k = 1
      add({0, 7, 0, 0, 33, 0}, 17, 19);     // idle experts
      add({0, 0}, 8, 8);                    // nobody has a row
      add({0, 100, 0}, 31, 33);             // one expert with everything
      add({13, 14, 15, 16, 17, 31, 32, 33}, 37, 41);
      add({47, 50, 64, 65}, 129, 97);
      add({129, 1}, 515, 67);               // longer than a chunk of the contraction
      add({300}, 70, 130);
      add({29}, 2048, 35);                  // rows of A whole pages apart
      add({600, 5}, 33, 40);                // tn: longer than a chunk
      add({16}, 0, 8);                      // k = 0: zeros; tn: m = 0
      add({16}, 8, 0);
    }
  return cases;
}

TEST_P(EveryVariant, EqualsLoopsInFloat64) {
  const ScopedIsa forced(isa());
  for (const Case& c : awkward_cases()) {
    const Data data(c, compute());
    expect_close(data.run(), by_loops(data), depth_of(c), testing::PrintToString(c));
  }
}

TEST_P(EveryVariant, NoExpertsNoRowsNoHarm) {
  const ScopedIsa forced(isa());
  for (const GemmForm form : kForms) EXPECT_TRUE(Data({form, {}, 8, 8}, compute()).run().empty());
}

// Rows of an expert that got none are left as they were by nt and nn; tn writes zeros, or keeps C when it accumulates.
TEST_P(EveryVariant, IdleExpertsHaveZeroWeightGradient) {
  const ScopedIsa forced(isa());
  Data data({GemmForm::tn, {0, 3}, 5, 6}, compute());
  const auto set = data.run();
  for (size_t i = 0; i < 30; ++i) EXPECT_EQ(set[i], 0.0f) << i;
  data.call.accumulate = true;
  const auto added = data.run();
  for (size_t i = 0; i < 30; ++i) EXPECT_EQ(added[i], data.out[i]) << i;
}

TEST_P(EveryVariant, SameBitsForAnyNumberOfThreads) {
  const ScopedIsa forced(isa());
  const int before = omp_get_max_threads();
  for (const GemmForm form : kForms) {
    const Data data({form, {0, 200, 3, 57, 20}, 140, 150}, compute());
    omp_set_num_threads(1);
    const auto one = data.run();
    for (const int threads : {2, 3, 7}) {
      omp_set_num_threads(threads);
      EXPECT_EQ(data.run(), one) << word(form) << " with " << threads << " threads";
    }
  }
  omp_set_num_threads(before);
}

// The value of a row must not depend on how many rows its expert has, nor on its place among them: the ways for few and for
// many rows add in the same order.
TEST_P(EveryVariant, ARowDoesNotDependOnItsNeighbours) {
  const ScopedIsa forced(isa());
  for (const GemmForm form : {GemmForm::nt, GemmForm::nn}) {
    const int64_t k = 600, n = 75;
    const Data all({form, {90}, k, n}, compute());
    const auto want = all.run();
    for (const int64_t rows : {1, 2, 5, 16, 17, 33, 61}) {
      Data some = all;
      const int64_t first = 90 - rows;
      some.a.erase(some.a.begin(), some.a.begin() + first * k);
      some.out.resize(static_cast<size_t>(rows * n));
      some.offsets = {0, rows};
      EXPECT_EQ(some.run(), std::vector<float>(want.begin() + first * n, want.end())) << word(form) << ", " << rows << " rows";
    }
  }
}

// Offsets may start anywhere: a call over some of the experts of a larger batch.
TEST_P(EveryVariant, OffsetsNeedNotStartAtZero) {
  const ScopedIsa forced(isa());
  for (const GemmForm form : kForms) {
    const Data all({form, {5, 40, 3}, 20, 22}, compute());
    Data last = all;
    last.offsets = {5, 45, 48};
    last.call.experts = 2;
    const bool tn = form == GemmForm::tn;
    const size_t expert = 20 * 22;
    if (!tn) last.b.erase(last.b.begin(), last.b.begin() + expert);
    const auto want = all.run(), got = last.run();
    const size_t skipped = tn ? expert : 5 * 22, shift = tn ? expert : 0;
    EXPECT_TRUE(std::equal(want.begin() + skipped, want.end(), got.begin() + skipped - shift)) << word(form);
  }
}

// Callers in several threads, as ranks in one process are, share nothing.
TEST_P(EveryVariant, CallersInSeveralThreadsDoNotDisturbEachOther) {
  const ScopedIsa forced(isa());
  const Data data({GemmForm::nt, {70, 1, 90}, 65, 66}, compute());
  const auto want = data.run();
  std::vector<std::vector<float>> got(3);
  std::vector<std::thread> callers;
  for (auto& result : got) callers.emplace_back([&] { for (int turn = 0; turn < 5; ++turn) result = data.run(); });
  for (auto& caller : callers) caller.join();
  for (const auto& result : got) EXPECT_EQ(result, want);
}

TEST_P(EveryVariant, NanAndInfinityReachTheirElementsAlone) {
  const ScopedIsa forced(isa());
  for (const GemmForm form : kForms) {
    Data data({form, {21, 40}, 35, 37}, compute());
    const bool tn = form == GemmForm::tn;
    std::fill(data.b.begin(), data.b.end(), 1.0f);
    std::fill(data.a.begin(), data.a.end(), 1.0f);
    data.a[5] = kNan;           // row 0, step 5; tn: contraction row 0, m 5
    data.a[35 + 8] = kInf;      // row 1, step 8; tn: contraction row 1, m 8
    const auto got = data.run();
    for (int64_t j = 0; j < 37; ++j) {
      EXPECT_TRUE(std::isnan(got[(tn ? 5 : 0) * 37 + j])) << word(form) << j;
      EXPECT_EQ(got[(tn ? 8 : 1) * 37 + j], kInf) << word(form) << j;
      EXPECT_EQ(got[2 * 37 + j], tn ? 21.0f : 35.0f) << word(form) << j;
    }
  }
}

// Weights larger than the packing area are packed in rounds. Oracle: the way for few rows, which packs no whole weight.
TEST_P(EveryVariant, WeightsPackedInRoundsGiveTheSameBits) {
  const ScopedIsa forced(isa());
  const int64_t k = 640, n = 10000, half = 17;
  const Data all({GemmForm::nn, {2 * half, 2 * half}, k, n}, compute());
  const auto want = all.run();
  for (const int64_t first : {int64_t{0}, half}) {
    Data part = all;
    part.offsets = {0, half, 2 * half};
    part.out.resize(static_cast<size_t>(2 * half * n));
    for (const int64_t e : {0, 1})
      std::copy_n(all.a.begin() + (e * 2 * half + first) * k, half * k, part.a.begin() + e * half * k);
    const auto got = part.run();
    for (const int64_t e : {0, 1})
      EXPECT_TRUE(std::equal(got.begin() + e * half * n, got.begin() + (e + 1) * half * n,
                             want.begin() + (e * 2 * half + first) * n));
  }
}

// The first bits that bfloat16 drops: a half goes to the even neighbour. All variants round alike.
TEST_P(EveryBfloat16Variant, RoundsToNearestEven) {
  const ScopedIsa forced(isa());
  const float step = std::ldexp(1.0f, -7);
  const std::pair<float, float> examples[] = {
      {1.0f + 0.5f * step, 1.0f},         {1.0f + 1.5f * step, 1.0f + 2 * step},        {1.0f + 0.51f * step, 1.0f + step},
      {-1.0f - 0.49f * step, -1.0f},      {3.4e38f, kInf},                              {-1.0f - 1.5f * step, -1.0f - 2 * step},
      {0.0f, 0.0f},                       {-kInf, -kInf}};
  for (const auto& [x, want] : examples)
    for (const GemmForm form : kForms) {
      Data data({form, {1}, 1, 1}, compute());
      data.a = {x};
      data.b = {1.0f};
      EXPECT_EQ(data.run()[0], want) << word(form) << ' ' << x;
    }
}

}  // namespace
}  // namespace switchyard::kernels
