#include "kernels/attention.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <omp.h>

#include <limits>

#include "kernels/per_isa_test.h"

namespace switchyard::kernels {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

struct Case {
  int64_t batch, queries, keys, heads, kv_heads, head_dim;
  bool causal = true;
  int documents = 0;    // > 0: packed segments with some padding
  int64_t spare = 0;    // elements between the tokens of every array
};

struct Array {  // [B, S, heads * head_dim], tokens `stride` apart
  std::vector<float> data;
  int64_t length, width, stride;

  Array(int64_t batch, int64_t length, int64_t width, int64_t spare)
      : data(static_cast<size_t>(batch * length * (width + spare)), 7e7f), length(length), width(width), stride(width + spare) {}
  float& at(int64_t b, int64_t s, int64_t x) { return data[static_cast<size_t>((b * length + s) * stride + x)]; }
  HeadRows<float> rows() { return {data.data(), length * stride, stride}; }
  HeadRows<const float> view() const { return {data.data(), length * stride, stride}; }
  void fill_normal(int64_t batch, std::mt19937& random) {
    std::normal_distribution<float> normal;
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t s = 0; s < length; ++s)
        for (int64_t x = 0; x < width; ++x) at(b, s, x) = normal(random);
  }
};

struct Problem {
  Case size;
  std::vector<int32_t> q_segment, k_segment;
  Array q, k, v, out, dout, dq, dk, dv;
  std::vector<float> lse;
  AttentionShape shape;

  explicit Problem(const Case& c)
      : size(c), q(c.batch, c.queries, c.heads * c.head_dim, c.spare), k(c.batch, c.keys, c.kv_heads * c.head_dim, c.spare),
        v(c.batch, c.keys, c.kv_heads * c.head_dim, 2 * c.spare), out(q), dout(q), dq(q), dk(k), dv(v),
        lse(static_cast<size_t>(c.batch * c.heads * c.queries), 7e7f) {
    std::mt19937 random(17);
    for (Array* x : {&q, &k, &v, &dout}) x->fill_normal(c.batch, random);
    shape = {.batch = c.batch, .queries = c.queries, .keys = c.keys, .heads = c.heads, .kv_heads = c.kv_heads,
             .head_dim = c.head_dim, .scale = 1.3f / std::sqrt(static_cast<float>(c.head_dim)), .causal = c.causal};
    if (c.documents == 0) return;
    for (int64_t b = 0; b < c.batch; ++b)
      for (int64_t j = 0; j < c.keys; ++j) {
        const int32_t id = static_cast<int32_t>(j * c.documents / c.keys + b);
        k_segment.push_back((j + b) % 13 == 5 ? -1 : id);
      }
    for (int64_t b = 0; b < c.batch; ++b)
      for (int64_t i = 0; i < c.queries; ++i) {
        const int64_t j = i + c.keys - c.queries;
        q_segment.push_back(j < 0 ? -1 : k_segment[static_cast<size_t>(b * c.keys + j)]);
      }
    shape.q_segment = q_segment.data();
    shape.k_segment = k_segment.data();
  }

  bool visible(int64_t b, int64_t i, int64_t j) const {
    if (size.causal && j > i + size.keys - size.queries) return false;
    if (q_segment.empty()) return true;
    const int32_t key = k_segment[static_cast<size_t>(b * size.keys + j)];
    return key >= 0 && key == q_segment[static_cast<size_t>(b * size.queries + i)];
  }
  void forward() { attention_forward(shape, q.view(), k.view(), v.view(), out.rows(), lse.data()); }
  void backward() {
    attention_backward(shape, q.view(), k.view(), v.view(), out.view(), lse.data(), dout.view(), {dq.rows(), dk.rows(), dv.rows()});
  }
};

struct Expected {
  std::vector<double> out, lse, dq, dk, dv;
};

// Oracle: one query at a time, in double precision.
Expected by_loops(Problem& p) {
  const Case& c = p.size;
  const int64_t width = c.head_dim, group = c.heads / c.kv_heads;
  Expected e;
  e.out.assign(static_cast<size_t>(c.batch * c.queries * c.heads * width), 0.0);
  e.dq = e.out;
  e.dk.assign(static_cast<size_t>(c.batch * c.keys * c.kv_heads * width), 0.0);
  e.dv = e.dk;
  for (int64_t b = 0; b < c.batch; ++b)
    for (int64_t h = 0; h < c.heads; ++h)
      for (int64_t i = 0; i < c.queries; ++i) {
        const int64_t q0 = h * width, k0 = h / group * width;
        std::vector<double> score(static_cast<size_t>(c.keys), 0.0), dp(score);
        double sum = 0.0;
        for (int64_t j = 0; j < c.keys; ++j) {
          for (int64_t d = 0; d < width; ++d) score[static_cast<size_t>(j)] += double{p.q.at(b, i, q0 + d)} * p.k.at(b, j, k0 + d);
          score[static_cast<size_t>(j)] = p.visible(b, i, j) ? std::exp(score[static_cast<size_t>(j)] * p.shape.scale) : 0.0;
          sum += score[static_cast<size_t>(j)];
        }
        e.lse.push_back(std::log(sum));
        if (sum == 0.0) continue;
        double delta = 0.0;
        for (int64_t j = 0; j < c.keys; ++j) {
          score[static_cast<size_t>(j)] /= sum;
          for (int64_t d = 0; d < width; ++d) {
            e.out[static_cast<size_t>(((b * c.queries + i) * c.heads + h) * width + d)] += score[static_cast<size_t>(j)] * p.v.at(b, j, k0 + d);
            dp[static_cast<size_t>(j)] += double{p.dout.at(b, i, q0 + d)} * p.v.at(b, j, k0 + d);
          }
          delta += score[static_cast<size_t>(j)] * dp[static_cast<size_t>(j)];
        }
        for (int64_t j = 0; j < c.keys; ++j) {
          const double ds = score[static_cast<size_t>(j)] * (dp[static_cast<size_t>(j)] - delta) * p.shape.scale;
          for (int64_t d = 0; d < width; ++d) {
            const size_t key = static_cast<size_t>(((b * c.keys + j) * c.kv_heads + h / group) * width + d);
            e.dq[static_cast<size_t>(((b * c.queries + i) * c.heads + h) * width + d)] += ds * p.k.at(b, j, k0 + d);
            e.dk[key] += ds * p.q.at(b, i, q0 + d);
            e.dv[key] += score[static_cast<size_t>(j)] * p.dout.at(b, i, q0 + d);
          }
        }
      }
  return e;
}

// Rounding grows with the square root of the number of terms; the arrays hold values of order one.
void expect_near(Array& got, const std::vector<double>& want, int64_t batch, int64_t terms, const std::string& name) {
  const double tolerance = 3e-6 * std::sqrt(static_cast<double>(terms) + 1.0);
  double worst = 0.0;
  std::string where;
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t s = 0; s < got.length; ++s)
      for (int64_t x = 0; x < got.width; ++x) {
        const double error = std::abs(got.at(b, s, x) - want[static_cast<size_t>((b * got.length + s) * got.width + x)]);
        if (!(error <= worst)) worst = error, where = fmt::format("[{}, {}, {}]", b, s, x);
      }
  EXPECT_LE(worst, tolerance) << name << " at " << where;
  for (size_t n = 0; n < got.data.size(); ++n)
    if (static_cast<int64_t>(n) % got.stride >= got.width) {
      ASSERT_EQ(got.data[n], 7e7f) << name << " wrote between tokens, element " << n;
    }
}

const Case kCases[] = {
    {2, 37, 37, 4, 2, 16},
    {1, 1, 1, 1, 1, 1},
    {3, 70, 70, 3, 3, 5, true, 0, 3},
    {1, 129, 129, 2, 1, 64, true, 3, 8},
    {2, 65, 65, 12, 4, 32, true, 5},
    {2, 40, 90, 6, 2, 48, true, 0, 1},   // the last 40 of 90 tokens
    {1, 50, 20, 2, 2, 24},               // the first 30 queries see nothing
    {2, 33, 100, 4, 4, 80, false},
    {2, 33, 33, 4, 2, 33, false, 2},
    {1, 200, 200, 1, 1, 128},
    {4, 1, 77, 8, 2, 64, true, 0, 5},    // decoding
    {1, 1, 1300, 6, 1, 40},              // decoding, several chunks, five head_dim vectors or less
    {2, 3, 700, 4, 2, 19, true, 4},
    {1, 2, 600, 2, 1, 7, false},
    {2, 5, 2, 1, 1, 8},
    {2, 4, 0, 2, 1, 8},
    {0, 4, 4, 2, 1, 8},
    {2, 0, 4, 2, 1, 8},
};

class Attention : public PerIsa {};
INSTANTIATE_TEST_SUITE_P(Isa, Attention, vector_isas(), isa_name);

TEST_P(Attention, EqualsLoopsForwardAndBackward) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(fmt::format("batch={} queries={} keys={} heads={} kv_heads={} head_dim={} documents={}", c.batch, c.queries,
                             c.keys, c.heads, c.kv_heads, c.head_dim, c.documents));
    Problem p(c);
    const Expected want = by_loops(p);
    p.forward();
    expect_near(p.out, want.out, c.batch, 1, "out");
    for (size_t n = 0; n < want.lse.size(); ++n) {
      if (std::isinf(want.lse[n])) ASSERT_EQ(p.lse[n], -kInf) << "lse " << n;
      else ASSERT_NEAR(p.lse[n], want.lse[n], 3e-6 * std::max(1.0, std::abs(want.lse[n]))) << "lse " << n;
    }
    p.backward();
    expect_near(p.dq, want.dq, c.batch, 4, "dq");
    expect_near(p.dk, want.dk, c.batch, c.queries, "dk");
    expect_near(p.dv, want.dv, c.batch, c.queries, "dv");
  }
}

TEST_P(Attention, DoesNotDependOnTheNumberOfThreads) {
  const int threads = omp_get_max_threads();
  for (const Case& c : {Case{1, 200, 200, 2, 1, 32}, Case{3, 65, 65, 4, 2, 16}, Case{1, 1, 2000, 4, 1, 64}}) {
    Problem one(c), three(c);
    omp_set_num_threads(1);
    one.forward(), one.backward();
    omp_set_num_threads(3);
    three.forward(), three.backward();
    EXPECT_EQ(one.out.data, three.out.data);
    EXPECT_EQ(one.dq.data, three.dq.data);
    EXPECT_EQ(one.dk.data, three.dk.data);
    EXPECT_EQ(one.dv.data, three.dv.data);
  }
  omp_set_num_threads(threads);
}

TEST_P(Attention, LargeScoresDoNotOverflow) {
  Problem p({1, 40, 40, 1, 1, 8});
  p.shape.scale = 300.0f;
  p.forward();
  for (int64_t i = 0; i < 40; ++i)
    for (int64_t d = 0; d < 8; ++d) ASSERT_TRUE(std::isfinite(p.out.at(0, i, d))) << i;
}

TEST_P(Attention, NaNReachesTheOutputsThatSeeIt) {
  Problem p({1, 40, 40, 1, 1, 8});
  p.k.at(0, 20, 3) = std::numeric_limits<float>::quiet_NaN();
  p.forward();
  EXPECT_FALSE(std::isnan(p.out.at(0, 19, 0)));
  for (int64_t i = 20; i < 40; ++i) EXPECT_TRUE(std::isnan(p.out.at(0, i, 0)) && std::isnan(p.lse[static_cast<size_t>(i)])) << i;
}

// The oracle's own gradients, by central differences of its forward pass.
TEST(AttentionOracle, GradientsEqualFiniteDifferences) {
  const Case c{1, 4, 6, 4, 2, 3, true, 2};
  Problem p(c);
  const Expected e = by_loops(p);
  const auto loss = [&] {
    const Expected now = by_loops(p);
    double sum = 0.0;
    for (size_t n = 0; n < now.out.size(); ++n) sum += now.out[n] * p.dout.data[n];
    return sum;
  };
  const auto check = [&](Array& x, const std::vector<double>& gradient) {
    for (size_t n = 0; n < x.data.size(); ++n) {
      const float old = x.data[n], step = 1.0f / 1024;
      x.data[n] = old + step;
      const double high = loss(), above = x.data[n];
      x.data[n] = old - step;
      const double low = loss(), below = x.data[n];
      x.data[n] = old;
      EXPECT_NEAR((high - low) / (above - below), gradient[n], 1e-5) << n;
    }
  };
  check(p.q, e.dq);
  check(p.k, e.dk);
  check(p.v, e.dv);
}

}  // namespace
}  // namespace switchyard::kernels
