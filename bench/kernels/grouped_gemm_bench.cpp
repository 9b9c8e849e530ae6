// Grouped matrix product, every variant of this CPU, against one OpenBLAS sgemm per expert (1.00).
#include <cstdio>
#include <random>

#include "harness.h"
#include "kernels/grouped_gemm.h"
#include "kernels/limits.h"
#include "switchyard/error.h"

// The part of the CBLAS interface that is used here; its header is not on every system that has the library.
extern "C" {
void cblas_sgemm(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float* a, int lda, const float* b,
                 int ldb, float beta, float* c, int ldc);
void openblas_set_num_threads(int threads);
}

namespace switchyard::bench {
namespace {

using namespace kernels;

struct Shape {
  std::string name;
  std::vector<int64_t> rows;  // per expert
  int64_t k, n;
};

std::vector<int64_t> zipf(int64_t experts, int64_t total, double exponent) {
  std::vector<double> weight;
  double sum = 0;
  for (int64_t e = 0; e < experts; ++e) sum += weight.emplace_back(std::pow(static_cast<double>(e + 1), -exponent));
  std::vector<int64_t> rows;
  int64_t given = 0;
  for (const double w : weight) given += rows.emplace_back(static_cast<int64_t>(w / sum * static_cast<double>(total)));
  rows[0] += total - given;
  return rows;
}

std::vector<Shape> shapes() {
  return {{"dense 4096 rows", {4096}, 512, 512},
          {"dense narrow 4096 rows", {4096}, 256, 256},
          {"dense up 4096 rows", {4096}, 256, 1024},
          {"lm head 2048 rows", {2048}, 512, 4096},
          {"moe uniform 4096 rows", std::vector<int64_t>(8, 512), 512, 512},
          {"moe zipf 4096 rows", zipf(8, 4096, 1.1), 512, 512},
          {"moe many 4096 rows", zipf(64, 4096, 0.5), 256, 256},
          {"demo up 8192 rows", std::vector<int64_t>(16, 512), 128, 384},
          {"demo down 8192 rows", std::vector<int64_t>(16, 512), 192, 128},
          {"decode 1 row", {1}, 1024, 1024},
          {"decode 8 rows", {8}, 1024, 1024},
          {"decode moe 16 rows", std::vector<int64_t>(8, 2), 512, 512}};
}

// Operands of a shape in one form; tn contracts over rows, so its A is [rows, k] and its C is [E, k, n].
struct Bench {
  Bench(const Shape& s, GemmForm form) : offsets(1, 0) {
    for (const int64_t r : s.rows) offsets.push_back(offsets.back() + r);
    const int64_t rows = offsets.back(), experts = static_cast<int64_t>(s.rows.size());
    const bool tn = form == GemmForm::tn;
    std::mt19937 random(11);
    std::uniform_real_distribution<float> uniform(-1, 1);
    const auto fill = [&](std::vector<float>& v, int64_t size) {
      v.resize(static_cast<size_t>(size));
      for (float& x : v) x = uniform(random);
    };
    fill(a, rows * s.k);
    fill(b, tn ? rows * s.n : experts * s.k * s.n);
    c.resize(static_cast<size_t>(tn ? experts * s.k * s.n : rows * s.n));
    g = {form, GemmCompute::float32, false, a.data(), b.data(), c.data(), offsets.data(), experts,
         tn ? s.k : 0, s.n, tn ? 0 : s.k};
    flop = 2.0 * static_cast<double>(rows * s.k * s.n);
  }

  void blas() {
    const int n = static_cast<int>(g.n), k = static_cast<int>(g.form == GemmForm::tn ? g.m : g.k);
    for (int64_t e = 0; e < g.experts; ++e) {
      const int64_t first = offsets[static_cast<size_t>(e)];
      const int rows = static_cast<int>(offsets[static_cast<size_t>(e) + 1] - first);
      const float* x = a.data() + first * k;
      const float* w = b.data() + e * n * k;
      constexpr int kRowMajor = 101, kPlain = 111, kTransposed = 112;
      if (g.form == GemmForm::nt)
        cblas_sgemm(kRowMajor, kPlain, kTransposed, rows, n, k, 1, x, k, w, k, 0, c.data() + first * n, n);
      else if (g.form == GemmForm::nn)
        cblas_sgemm(kRowMajor, kPlain, kPlain, rows, n, k, 1, x, k, w, n, 0, c.data() + first * n, n);
      else
        cblas_sgemm(kRowMajor, kTransposed, kPlain, k, n, rows, 1, x, k, b.data() + first * n, n, 0, c.data() + e * n * k, n);
    }
  }

  std::vector<int64_t> offsets;
  std::vector<float> a, b, c;
  GroupedGemm g;
  double flop = 0;
};

struct Variant {
  std::string name;
  Isa isa;
  GemmCompute compute;
};

std::vector<Variant> variants() {
  std::vector<Variant> list;
  for (const Isa isa : {Isa::amx, Isa::avx512, Isa::avx2}) {  // scalar is the truth, not a competitor; vnni multiplies bytes
    if (!cpu_has(isa)) continue;
    const std::string name(name_of(isa));
    if (isa != Isa::amx) list.push_back({name + " f32", isa, GemmCompute::float32});
    if (isa != Isa::avx2) list.push_back({name + " bf16", isa, GemmCompute::bfloat16});
  }
  return list;
}

// Largest difference to sgemm over the largest element; a bf16 product of random signs is within 2^-8 of it.
bool agrees(Bench& bench, const Variant& v) {
  bench.blas();
  const std::vector<float> want = bench.c;
  std::fill(bench.c.begin(), bench.c.end(), 0.0f);
  const ScopedIsa forced(v.isa);
  bench.g.compute = v.compute;
  grouped_gemm(bench.g);
  double off = 0, largest = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    off = std::max<double>(off, std::abs(want[i] - bench.c[i]));
    largest = std::max<double>(largest, std::abs(want[i]));
  }
  return off <= (v.compute == GemmCompute::bfloat16 ? std::ldexp(1.0, -7) : 1e-4) * largest;
}

struct Row {
  std::string title;
  std::string variant;
  double us, best_us, spread, gflops, ratio;
};

bool run_case(const Shape& shape, GemmForm form, const Options& options, std::vector<Row>& rows) {
  const char* form_name = form == GemmForm::nt ? "nt" : form == GemmForm::nn ? "nn" : "tn";
  const std::string title = fmt::format("{} {} experts={} k={} n={}", form_name, shape.name, shape.rows.size(), shape.k, shape.n);
  if (title.find(options.only) == std::string::npos) return true;
  Bench bench(shape, form);
  std::vector<Candidate> candidates{{"sgemm loop", [&] { bench.blas(); }}};
  for (const Variant& v : variants()) {
    if (!agrees(bench, v)) {
      fmt::print(stderr, "{}: {} disagrees with sgemm\n", title, v.name);
      return false;
    }
    candidates.push_back({v.name, [&bench, v] {
                            const ScopedIsa forced(v.isa);
                            bench.g.compute = v.compute;
                            grouped_gemm(bench.g);
                          }});
  }
  const auto times = time_interleaved(candidates, options.reps);
  if (!options.json) fmt::print("{}\n  {:<12} {:>9} {:>5} {:>9} {:>9} {:>7}\n", title, "variant", "us", "+-%", "best us", "GFLOP/s", "ratio");
  for (size_t i = 0; i < times.size(); ++i) {
    const double us = times[i].median_us;
    rows.push_back({title, candidates[i].name, us, times[i].best_us, times[i].spread, bench.flop / us / 1e3, times[0].median_us / us});
    const Row& r = rows.back();
    if (!options.json)
      fmt::print("  {:<12} {:>9.1f} {:>5.1f} {:>9.1f} {:>9.0f} {:>7.2f}\n", r.variant, r.us, r.spread * 100, r.best_us, r.gflops, r.ratio);
  }
  std::fflush(stdout);
  return true;
}

void print_json(const std::vector<Row>& rows, double peak) {
  nlohmann::json out = {{"machine", machine_line()}, {"fma_peak_gflops_per_thread", peak}, {"rows", nlohmann::json::array()}};
  for (const Row& r : rows)
    out["rows"].push_back({{"case", r.title}, {"variant", r.variant}, {"us", r.us}, {"best_us", r.best_us},
                           {"spread", r.spread}, {"gflops", r.gflops}, {"ratio", r.ratio}});
  fmt::print("{}\n", out.dump(2));
}

void print_summary(const std::vector<Row>& rows) {
  for (const Variant& v : variants()) {
    std::vector<double> ratios;
    const Row* worst = nullptr;
    for (const Row& r : rows) {
      if (r.variant != v.name) continue;
      ratios.push_back(r.ratio);
      if (!worst || r.ratio < worst->ratio) worst = &r;
    }
    if (worst)
      fmt::print("{:<12} geometric mean over {} cases: {:.2f}x sgemm loop; worst {:.2f}x at {}\n", v.name, ratios.size(),
                 geometric_mean(ratios), worst->ratio, worst->title);
  }
}

int run(int argc, char** argv) {
  const Options options = Options::parse(argc, argv);
  openblas_set_num_threads(omp_get_max_threads());
  const double peak = multiply_peak(selected_isa(), MultiplyUnit::float32) / omp_get_max_threads();
  if (!options.json)
    fmt::print("grouped_gemm   {}   multiply-add peak {:.0f} GFLOP/s per thread   reps={}\n", machine_line(), peak, options.reps);
  std::vector<Row> rows;
  for (const Shape& shape : shapes())
    for (const GemmForm form : {GemmForm::nt, GemmForm::nn, GemmForm::tn}) {
      if (form == GemmForm::tn && shape.name.rfind("decode", 0) == 0) continue;  // no gradients when decoding
      if (!run_case(shape, form, options, rows)) return 1;
    }
  if (options.json)
    print_json(rows, peak);
  else
    print_summary(rows);
  return 0;
}

}  // namespace
}  // namespace switchyard::bench

int main(int argc, char** argv) {
  try {
    return switchyard::bench::run(argc, argv);
  } catch (const switchyard::Error& e) {
    fmt::print(stderr, "{}\n", e.what());
    return 2;
  }
}
