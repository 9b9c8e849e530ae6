// Attention, every variant of this CPU, against OpenBLAS products that hold the whole [queries, keys] matrix (1.00).
// Flops count the visible (query, key) pairs alone: 4 head_dim forward, 10 head_dim backward.
#include <cstdio>
#include <random>

#include "harness.h"
#include "kernels/attention.h"
#include "kernels/limits.h"
#include "kernels/softmax.h"

// The part of the CBLAS interface that is used here; its header is not on every system that has the library.
extern "C" {
void cblas_sgemm(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float* a, int lda, const float* b,
                 int ldb, float beta, float* c, int ldc);
}

namespace switchyard::bench {
namespace {

using namespace kernels;

struct Case {
  const char* name;
  int64_t batch, queries, keys, heads, kv_heads, head_dim;
};

constexpr Case kCases[] = {
    {"train", 16, 128, 128, 4, 2, 32},     {"train", 8, 256, 256, 8, 4, 32},    {"train", 4, 512, 512, 8, 4, 64},
    {"train", 4, 512, 512, 12, 12, 64},    {"train", 8, 256, 256, 6, 2, 48},    {"prefill", 1, 1024, 1024, 8, 2, 64},
    {"prefill", 1, 2048, 2048, 8, 2, 128}, {"decode", 1, 1, 512, 8, 4, 64},     {"decode", 1, 1, 4096, 8, 2, 128},
    {"decode", 8, 1, 1024, 8, 4, 64},
};

constexpr int kRowMajor = 101, kPlain = 111, kTransposed = 112;

// c [m, n] = alpha * op(a) op(b) + beta * c, row-major.
void sgemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, float alpha, const float* a, int64_t lda,
           const float* b, int64_t ldb, float beta, float* c, int64_t ldc) {
  cblas_sgemm(kRowMajor, transpose_a ? kTransposed : kPlain, transpose_b ? kTransposed : kPlain, static_cast<int>(m),
              static_cast<int>(n), static_cast<int>(k), alpha, a, static_cast<int>(lda), b, static_cast<int>(ldb), beta, c,
              static_cast<int>(ldc));
}

class Bench {
 public:
  explicit Bench(const Case& c) : size_(c) {
    std::mt19937 random(5);
    std::normal_distribution<float> normal;
    for (auto* x : {&q, &out, &dout, &dq}) x->resize(static_cast<size_t>(c.batch * c.queries * c.heads * c.head_dim));
    for (auto* x : {&k, &v, &dk, &dv}) x->resize(static_cast<size_t>(c.batch * c.keys * c.kv_heads * c.head_dim));
    for (auto* x : {&q, &k, &v, &dout})
      for (float& value : *x) value = normal(random);
    lse.resize(static_cast<size_t>(c.batch * c.heads * c.queries));
    scores_.resize(static_cast<size_t>(c.queries * c.keys));
    dscores_.resize(scores_.size());
    shape = {.batch = c.batch, .queries = c.queries, .keys = c.keys, .heads = c.heads, .kv_heads = c.kv_heads,
             .head_dim = c.head_dim, .scale = 1.0f / std::sqrt(static_cast<float>(c.head_dim))};
    const double pairs = static_cast<double>(c.queries) * (static_cast<double>(c.keys) - (static_cast<double>(c.queries) - 1) / 2);
    forward_flop = 4.0 * static_cast<double>(c.batch * c.heads * c.head_dim) * pairs;
  }

  void forward() { attention_forward(shape, q_rows<const float>(q), kv_rows<const float>(k), kv_rows<const float>(v), q_rows<float>(out), lse.data()); }
  void backward() {
    attention_backward(shape, q_rows<const float>(q), kv_rows<const float>(k), kv_rows<const float>(v), q_rows<const float>(out),
                       lse.data(), q_rows<const float>(dout), {q_rows<float>(dq), kv_rows<float>(dk), kv_rows<float>(dv)});
  }

  void blas_forward() {
    for (int64_t b = 0; b < size_.batch; ++b)
      for (int64_t h = 0; h < size_.heads; ++h) {
        probs(b, h);
        sgemm(false, false, size_.queries, size_.head_dim, size_.keys, 1, scores_.data(), size_.keys, v.data() + kv_at(b, h),
              kv_stride(), 0, out.data() + q_at(b, h), q_stride());
      }
  }

  void blas_backward() {
    const int64_t s = size_.queries, t = size_.keys, d = size_.head_dim;
    const int64_t group = size_.heads / size_.kv_heads;
    for (int64_t b = 0; b < size_.batch; ++b)
      for (int64_t h = 0; h < size_.heads; ++h) {
        const float beta = h % group == 0 ? 0.0f : 1.0f;
        const int64_t at = q_at(b, h), kv = kv_at(b, h);
        probs(b, h);
        sgemm(true, false, t, d, s, 1, scores_.data(), t, dout.data() + at, q_stride(), beta, dv.data() + kv, kv_stride());
        sgemm(false, true, s, t, d, 1, dout.data() + at, q_stride(), v.data() + kv, kv_stride(), 0, dscores_.data(), t);
        softmax_rows_backward(s, t, {scores_.data(), t}, {dscores_.data(), t}, nullptr, {dscores_.data(), t});
        sgemm(false, false, s, d, t, shape.scale, dscores_.data(), t, k.data() + kv, kv_stride(), 0, dq.data() + at, q_stride());
        sgemm(true, false, t, d, s, shape.scale, dscores_.data(), t, q.data() + at, q_stride(), beta, dk.data() + kv, kv_stride());
      }
  }

  AttentionShape shape;
  std::vector<float> q, k, v, out, dout, dq, dk, dv, lse;
  double forward_flop;

 private:
  template <class T>
  HeadRows<T> q_rows(std::vector<float>& x) { return {x.data(), size_.queries * q_stride(), q_stride()}; }
  template <class T>
  HeadRows<T> kv_rows(std::vector<float>& x) { return {x.data(), size_.keys * kv_stride(), kv_stride()}; }
  int64_t q_stride() const { return size_.heads * size_.head_dim; }
  int64_t kv_stride() const { return size_.kv_heads * size_.head_dim; }
  int64_t q_at(int64_t b, int64_t h) const { return b * size_.queries * q_stride() + h * size_.head_dim; }
  int64_t kv_at(int64_t b, int64_t h) const {
    return b * size_.keys * kv_stride() + h / (size_.heads / size_.kv_heads) * size_.head_dim;
  }

  // scores_ [queries, keys] = softmax of the masked scores of one head
  void probs(int64_t b, int64_t h) {
    const int64_t s = size_.queries, t = size_.keys;
    sgemm(false, true, s, t, size_.head_dim, shape.scale, q.data() + q_at(b, h), q_stride(), k.data() + kv_at(b, h), kv_stride(),
          0, scores_.data(), t);
    for (int64_t i = 0; i < s; ++i)
      std::fill(scores_.data() + i * t + i + t - s + 1, scores_.data() + (i + 1) * t, -INFINITY);
    softmax_rows(s, t, {scores_.data(), t}, {scores_.data(), t}, nullptr);
  }

  Case size_;
  std::vector<float> scores_, dscores_;
};

double worst_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double off = std::abs(a[i] - b[i]);
    if (!(off <= worst)) worst = off;
  }
  return worst;
}

// The variant's outputs and gradients against those of the products.
bool agrees(Bench& bench, Isa isa, bool backward) {
  const ScopedIsa forced(isa);
  bench.blas_forward();
  const auto out = bench.out;
  bench.forward();
  if (!(worst_difference(out, bench.out) < 1e-4)) return false;
  if (!backward) return true;
  bench.blas_backward();
  const auto dq = bench.dq, dk = bench.dk, dv = bench.dv;
  bench.backward();
  return worst_difference(dq, bench.dq) < 1e-3 && worst_difference(dk, bench.dk) < 1e-3 && worst_difference(dv, bench.dv) < 1e-3;
}

struct Row {
  std::string title, variant;
  double us, spread, gflops, of_peak, ratio;
};

bool run_case(const Case& c, bool backward, double peak, const Options& options, std::vector<Row>& rows) {
  const std::string title = fmt::format("{} {} batch={} queries={} keys={} heads={}/{} head_dim={}", c.name,
                                        backward ? "backward" : "forward", c.batch, c.queries, c.keys, c.heads, c.kv_heads, c.head_dim);
  if (title.find(options.only) == std::string::npos) return true;
  Bench bench(c);
  std::vector<Candidate> candidates{{"products", [&] { backward ? bench.blas_backward() : bench.blas_forward(); }}};
  for (const Isa isa : {Isa::scalar, Isa::avx2, Isa::avx512}) {
    if (!cpu_has(isa)) continue;
    if (!agrees(bench, isa, backward)) {
      fmt::print(stderr, "{}: {} disagrees with the products\n", title, name_of(isa));
      return false;
    }
    candidates.push_back({std::string(name_of(isa)), [&bench, isa, backward] {
                            const ScopedIsa forced(isa);
                            backward ? bench.backward() : bench.forward();
                          }});
  }
  const auto times = time_interleaved(candidates, options.reps);
  const double flop = bench.forward_flop * (backward ? 2.5 : 1.0);
  if (!options.json) fmt::print("{}\n  {:<10} {:>9} {:>5} {:>9} {:>8} {:>7}\n", title, "variant", "us", "+-%", "GFLOP/s", "of peak", "ratio");
  for (size_t i = 0; i < times.size(); ++i) {
    const double gflops = flop / times[i].median_us / 1e3;
    rows.push_back({title, candidates[i].name, times[i].median_us, times[i].spread, gflops,
                    peak > 0 ? gflops / peak / omp_get_max_threads() : 0, times[0].median_us / times[i].median_us});
    const Row& r = rows.back();
    if (!options.json)
      fmt::print("  {:<10} {:>9.1f} {:>5.1f} {:>9.1f} {:>8.2f} {:>7.2f}\n", r.variant, r.us, r.spread * 100, r.gflops, r.of_peak, r.ratio);
  }
  std::fflush(stdout);
  return true;
}

}  // namespace
}  // namespace switchyard::bench

int main(int argc, char** argv) {
  using namespace switchyard::bench;
  const Options options = Options::parse(argc, argv);
  const double peak = multiply_peak(selected_isa(), MultiplyUnit::float32) / omp_get_max_threads();
  if (!options.json) fmt::print("{}; {:.0f} Gflop/s of multiply-adds per thread\n", machine_line(), peak);
  std::vector<Row> rows;
  for (const Case& c : kCases)
    for (const bool backward : {false, true})
      if (!(backward && c.queries == 1) && !run_case(c, backward, peak, options, rows)) return 1;
  if (options.json) {
    nlohmann::json out = {{"machine", machine_line()}, {"fma_peak_gflops_per_thread", peak}, {"rows", nlohmann::json::array()}};
    for (const Row& r : rows)
      out["rows"].push_back({{"case", r.title}, {"variant", r.variant}, {"us", r.us}, {"spread", r.spread}, {"gflops", r.gflops}, {"of_peak", r.of_peak}, {"ratio", r.ratio}});
    fmt::print("{}\n", out.dump(2));
  }
  std::vector<double> ratios;
  for (const Row& r : rows)
    if (r.variant == "avx512") ratios.push_back(r.ratio);
  if (!options.json && !ratios.empty()) fmt::print("avx512: geometric mean {:.2f}x over {} cases\n", geometric_mean(ratios), ratios.size());
}
