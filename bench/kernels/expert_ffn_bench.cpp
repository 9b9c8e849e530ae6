// Feed-forward experts on packed weights, every format, against the roof of this machine: the larger of the time to read the
// weights of the active experts and the time of the arithmetic, both measured in this run.
#include <cstdio>
#include <random>

#include "harness.h"
#include "kernels/limits.h"
#include "kernels/packed/expert_ffn.h"
#include "kernels/routing.h"

namespace switchyard::bench {
namespace {

using namespace kernels;
using namespace kernels::packed;

struct Shape {
  const char* name;
  int64_t d, f, experts, k;
};
constexpr Shape kShapes[] = {{"olmoe", 2048, 1024, 64, 8}, {"mixtral", 4096, 14336, 8, 2}, {"fine", 2048, 1408, 64, 6}, {"demo", 256, 64, 8, 2}};

// Layers of random weights: as many as make no cache hold them, so that each call finds its weights in memory.
struct Layers {
  Layers(const Shape& s, WeightFormat format) {
    std::vector<float> noise(static_cast<size_t>(s.d * s.f));
    std::mt19937 random(1);
    for (float& x : noise) x = std::ldexp(static_cast<float>(random() >> 8), -27) - 0.0625f;
    const bool small = s.d < 1024;
    do {
      auto& in = all.emplace_back(PackedWeights(format, s.experts, 2 * s.f, s.d, RowOrder::gate_then_up), PackedWeights(format, s.experts, s.d, s.f));
#pragma omp parallel for schedule(dynamic, 1)
      for (int64_t e = 0; e < s.experts; ++e) {
        in.first.pack(e, [&](int64_t r, float* out) { std::copy_n(noise.data() + r % s.f * s.d, s.d, out); });
        in.second.pack(e, [&](int64_t r, float* out) { std::copy_n(noise.data() + r % s.d * s.f, s.f, out); });
      }
      bytes += in.first.bytes() + in.second.bytes();
    } while (!small && bytes < (int64_t{3} << 29));
  }
  std::vector<std::pair<PackedWeights, PackedWeights>> all;
  int64_t bytes = 0;
};

struct Routed {
  std::vector<int64_t> ids, row_token, weight_index, row_of, offsets;
  std::vector<float> weights;
  int64_t active = 0, rows = 0;
};

Routed route(const Shape& s, int64_t tokens, uint32_t seed) {
  Routed r;
  std::mt19937 random(seed);
  std::vector<int64_t> all(static_cast<size_t>(s.experts));
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t e = 0; e < s.experts; ++e) all[static_cast<size_t>(e)] = e;
    for (int64_t j = 0; j < s.k; ++j) {
      std::swap(all[static_cast<size_t>(j)], all[static_cast<size_t>(j + static_cast<int64_t>(random() % static_cast<uint32_t>(s.experts - j)))]);
      r.ids.push_back(all[static_cast<size_t>(j)]);
    }
  }
  r.weights.assign(r.ids.size(), 1.0f / static_cast<float>(s.k));
  r.row_token.resize(r.ids.size());
  r.weight_index.resize(r.ids.size());
  r.row_of.resize(r.ids.size());
  r.offsets.resize(static_cast<size_t>(s.experts) + 1);
  r.rows = plan_counting_sort(tokens, s.k, s.experts, r.ids.data(), nullptr, r.row_token.data(), r.weight_index.data(), r.row_of.data(), r.offsets.data());
  for (int64_t e = 0; e < s.experts; ++e) r.active += r.offsets[static_cast<size_t>(e) + 1] > r.offsets[static_cast<size_t>(e)];
  return r;
}

// The first tokens with plain loops: what the selected kernels compute must be what they compute, up to the roundings of sums
// and, on AMX, of activations. False and a line of explanation if not.
bool checked(const Shape& s, const std::string& title, const std::pair<PackedWeights, PackedWeights>& w) {
  if (s.d * s.f > (8 << 20)) return true;  // plain loops would take minutes; the format was checked on the other shapes
  constexpr int64_t kTokens = 2;
  const Routed r = route(s, kTokens, 99);
  std::vector<float> x(static_cast<size_t>(kTokens * s.d)), y(x.size()), want(x.size());
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 7 % 23) / 23 - 0.5f;
  ExpertFfn call{.in = &w.first, .out = &w.second, .offsets = r.offsets.data(), .row_token = r.row_token.data(), .row_weight_index = r.weight_index.data(),
                 .weights = r.weights.data(), .x = x.data(), .y = y.data(), .tokens = kTokens};
  expert_ffn(call);
  {
    const ScopedIsa plain(Isa::scalar);
    call.y = want.data();
    expert_ffn(call);
  }
  float largest = 0, worst = 0;
  for (size_t i = 0; i < y.size(); ++i) largest = std::max(largest, std::abs(want[i])), worst = std::max(worst, std::abs(y[i] - want[i]));
  if (worst <= 1e-2f * largest) return true;
  fmt::print(stderr, "{}: differs from plain loops by {} of {}\n", title, worst, largest);
  return false;
}

bool run(const Options& options) {
  const Isa isa = selected_isa();
  const BandwidthProbe probe;
  double gbps = 0;
  for (int i = 0; i < 5; ++i) gbps = std::max(gbps, probe.read_gbps());
  fmt::print("{}\n{:.1f} GB/s, {:.0f} Gflop/s float32, {:.0f} bfloat16, {:.0f} Gop/s int8\n", machine_line(), gbps,
             multiply_peak(isa, MultiplyUnit::float32), multiply_peak(isa, MultiplyUnit::bfloat16), multiply_peak(isa, MultiplyUnit::int8));
  for (const Shape& s : kShapes)
    for (const WeightFormat format : kAllFormats) {
      const std::string title = fmt::format("{} {}", s.name, name_of(format));
      if (title.find(options.only) == std::string::npos) continue;
      const Layers layers(s, format);
      if (!checked(s, title, layers.all[0])) return false;
      const MultiplyUnit unit = is_integer(format) ? MultiplyUnit::int8 : format == WeightFormat::bfloat16 ? MultiplyUnit::bfloat16 : MultiplyUnit::float32;
      for (const int64_t tokens : {1, 4, 16, 64, 512, 4096}) {
        std::vector<Routed> routed;
        for (uint32_t i = 0; i < 8; ++i) routed.push_back(route(s, tokens, i));
        std::vector<float> x(static_cast<size_t>(tokens * s.d), 0.5f), y(x.size());
        for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 17) / 17 - 0.5f;
        double active = 0;
        for (const Routed& r : routed) active += static_cast<double>(r.active) / 8;
        size_t turn = 0;
        const auto call = [&] {
          const auto& w = layers.all[turn % layers.all.size()];
          const Routed& r = routed[turn++ % routed.size()];
          expert_ffn({.in = &w.first, .out = &w.second, .offsets = r.offsets.data(), .row_token = r.row_token.data(), .row_weight_index = r.weight_index.data(),
                      .weights = r.weights.data(), .x = x.data(), .y = y.data(), .tokens = tokens});
        };
        const auto timing = time_interleaved({{title, call}}, tokens >= 512 ? 3 : options.reps)[0];
        const auto& w = layers.all[0];
        const double bytes = active * static_cast<double>(w.first.expert_bytes() + w.second.expert_bytes()), flop = 6.0 * static_cast<double>(tokens * s.k * s.d * s.f);
        const double peak = multiply_peak(isa, unit);
        const double roof_us = std::max(bytes / gbps, flop / peak) * 1e-3;
        fmt::print("{:18} {:5} tokens {:10.1f} us  {:7.1f} GB/s {:8.1f} Gflop/s  {:4.2f} of the {} roof\n", title, tokens, timing.median_us, bytes / timing.median_us * 1e-3,
                   flop / timing.median_us * 1e-3, roof_us / timing.median_us, bytes / gbps > flop / peak ? "memory" : "compute");
        std::fflush(stdout);
      }
    }
  return true;
}

}  // namespace
}  // namespace switchyard::bench

int main(int argc, char** argv) {
  return switchyard::bench::run(switchyard::bench::Options::parse(argc, argv)) ? 0 : 1;
}
