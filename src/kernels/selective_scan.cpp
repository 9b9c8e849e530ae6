#include "kernels/selective_scan.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace switchyard::kernels {
namespace {

constexpr int64_t kBlocks = 16;  // of channels, each with its own sums over channels

// One channel of one text, all its steps: h[t * N + n] when `keep`, else the last h in h[0 .. N).
struct Channel {
  const ScanShape& s;
  const ScanInput& in;
  int64_t text, channel;

  [[nodiscard]] int64_t at(int64_t t) const { return (text * s.tokens + t) * s.channels + channel; }
  [[nodiscard]] const float* b(int64_t t) const { return in.b + (text * s.tokens + t) * s.state; }
  [[nodiscard]] const float* c(int64_t t) const { return in.c + (text * s.tokens + t) * s.state; }
  [[nodiscard]] const float* a() const { return in.a + channel * s.state; }
  [[nodiscard]] bool reset(int64_t t) const { return in.reset && in.reset[text * s.tokens + t]; }

  void step(int64_t t, const float* before, float* h) const {
    const float delta = in.delta[at(t)], x = delta * in.u[at(t)];
    const float keep = reset(t) ? 0.0f : 1.0f;
    for (int64_t n = 0; n < s.state; ++n) h[n] = keep * std::exp(delta * a()[n]) * before[n] + x * b(t)[n];
  }
};

// Adds to the sums over channels in db, dc [S, N] and over steps in da [N], dd.
void channel_backward(const Channel& ch, const float* dy, const ScanGradients& out, float* db, float* dc, std::vector<float>& h, std::vector<float>& dh) {
  const ScanShape& s = ch.s;
  const int64_t width = s.state;
  std::fill(h.begin(), h.begin() + width, 0.0f);  // h[(t + 1) * N] is h_t
  for (int64_t t = 0; t < s.tokens; ++t) ch.step(t, h.data() + t * width, h.data() + (t + 1) * width);
  std::fill(dh.begin(), dh.end(), 0.0f);
  for (int64_t t = s.tokens - 1; t >= 0; --t) {
    const float g = dy[ch.at(t)], delta = ch.in.delta[ch.at(t)], u = ch.in.u[ch.at(t)];
    const float *now = h.data() + (t + 1) * width, *before = h.data() + t * width;
    const float keep = ch.reset(t) ? 0.0f : 1.0f;
    float du = ch.in.d[ch.channel] * g, ddelta = 0;
    for (int64_t n = 0; n < width; ++n) {
      const float a = ch.a()[n], decay = keep * std::exp(delta * a);
      dh[static_cast<size_t>(n)] += ch.c(t)[n] * g;
      const float d = dh[static_cast<size_t>(n)], fed = d * decay * before[n];
      dc[t * width + n] += g * now[n];
      db[t * width + n] += d * delta * u;
      du += d * delta * ch.b(t)[n];
      ddelta += d * u * ch.b(t)[n] + a * fed;
      out.a[ch.channel * width + n] += delta * fed;
      dh[static_cast<size_t>(n)] = d * decay;
    }
    out.u[ch.at(t)] = du;
    out.delta[ch.at(t)] = ddelta;
    out.d[ch.channel] += g * u;
  }
}

}  // namespace

void selective_scan(const ScanShape& s, const ScanInput& in, float* state, float* y) noexcept {
#pragma omp parallel for collapse(2) schedule(static) if (s.batch * s.tokens * s.channels > 4096)
  for (int64_t text = 0; text < s.batch; ++text)
    for (int64_t channel = 0; channel < s.channels; ++channel) {
      const Channel ch{s, in, text, channel};
      float room[64];
      std::vector<float> large(s.state > 64 ? static_cast<size_t>(s.state) : 0);
      float* const h = s.state > 64 ? large.data() : room;
      float* const kept = state ? state + (text * s.channels + channel) * s.state : nullptr;
      for (int64_t n = 0; n < s.state; ++n) h[n] = kept ? kept[n] : 0.0f;
      for (int64_t t = 0; t < s.tokens; ++t) {
        ch.step(t, h, h);
        float sum = in.d[channel] * in.u[ch.at(t)];
        for (int64_t n = 0; n < s.state; ++n) sum += ch.c(t)[n] * h[n];
        y[ch.at(t)] = sum;
      }
      if (kept) std::copy(h, h + s.state, kept);
    }
}

void selective_scan_backward(const ScanShape& s, const ScanInput& in, const float* dy, const ScanGradients& out) {
  const auto text_size = static_cast<size_t>(s.tokens * s.state);
  std::fill(out.a, out.a + s.channels * s.state, 0.0f);
  std::fill(out.d, out.d + s.channels, 0.0f);
  std::fill(out.b, out.b + s.batch * s.tokens * s.state, 0.0f);
  std::fill(out.c, out.c + s.batch * s.tokens * s.state, 0.0f);
  std::vector<float> sums(2 * static_cast<size_t>(kBlocks) * text_size);
  for (int64_t text = 0; text < s.batch; ++text) {
    std::fill(sums.begin(), sums.end(), 0.0f);
#pragma omp parallel for schedule(static)
    for (int64_t block = 0; block < kBlocks; ++block) {
      std::vector<float> h(static_cast<size_t>((s.tokens + 1) * s.state)), dh(static_cast<size_t>(s.state));
      float* const db = sums.data() + 2 * static_cast<size_t>(block) * text_size;
      for (int64_t channel = block * s.channels / kBlocks; channel < (block + 1) * s.channels / kBlocks; ++channel)
        channel_backward({s, in, text, channel}, dy, out, db, db + text_size, h, dh);
    }
    float *const db = out.b + text * s.tokens * s.state, *const dc = out.c + text * s.tokens * s.state;
    for (int64_t block = 0; block < kBlocks; ++block)
      for (size_t i = 0; i < text_size; ++i) {
        db[i] += sums[2 * static_cast<size_t>(block) * text_size + i];
        dc[i] += sums[(2 * static_cast<size_t>(block) + 1) * text_size + i];
      }
  }
}

}  // namespace switchyard::kernels
