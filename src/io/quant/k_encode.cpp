// Encoders of Q4_K and Q6_K.
//
// Each starts from a grid that covers its sub-block (every value within half a step), and then moves to better integers by
// weighted least squares: with the codes fixed, the best scale (and offset) solve a linear system; rounded to the integers that
// the format has, they give new codes; what lowers the weighted squared error stays. So the result is at least as good as the
// covering grid, which gives the bounds of block_format.h. Weights are rms + |x|.
#include "io/quant/block_codecs.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace switchyard::io {
namespace {

template <int N>
std::array<double, N> weights_of(const float* x) noexcept {
  double squares = 0;
  for (int i = 0; i < N; ++i) squares += static_cast<double>(x[i]) * x[i];
  const double rms = std::sqrt(squares / N);
  std::array<double, N> w;
  for (int i = 0; i < N; ++i) w[static_cast<size_t>(i)] = rms + std::abs(x[i]);
  return w;
}

// One sub-block with its integers: x ~ step * code - offset.
template <int N>
struct Fit {
  int scale = 0, min = 0;
  std::array<int, N> codes{};
  double error = 0;
};

constexpr int kRounds = 4;  // of codes -> integers -> codes; errors hardly fall after the third

// ---- Q4_K: 8 sub-blocks of 32; step = d * scale, offset = dmin * min ----

constexpr int kQ4 = 32;
using Q4Fit = Fit<kQ4>;

Q4Fit fit_q4(const float* x, const std::array<double, kQ4>& w, double d, double dmin, int scale, int min) noexcept {
  Q4Fit fit{std::clamp(scale, 0, 63), std::clamp(min, 0, 63), {}, 0};
  const double step = d * fit.scale, offset = dmin * fit.min;
  for (size_t i = 0; i < kQ4; ++i) {
    const double code = step > 0 ? std::clamp((x[i] + offset) / step, 0.0, 15.0) : 0.0;
    fit.codes[i] = static_cast<int>(std::lrint(code));
    const double rest = x[i] - (step * fit.codes[i] - offset);
    fit.error += w[i] * rest * rest;
  }
  return fit;
}

// Integers nearest to the least-squares solution for the codes of `fit`; false when the codes are all alike.
bool solve_q4(const float* x, const std::array<double, kQ4>& w, double d, double dmin, const Q4Fit& fit, int& scale, int& min) noexcept {
  double sw = 0, sc = 0, scc = 0, sx = 0, scx = 0;
  for (size_t i = 0; i < kQ4; ++i) {
    const double c = fit.codes[i];
    sw += w[i], sc += w[i] * c, scc += w[i] * c * c, sx += w[i] * x[i], scx += w[i] * c * x[i];
  }
  const double det = sw * scc - sc * sc;
  if (!(det > 1e-12 * sw * scc) || d <= 0) return false;
  const double offset = dmin > 0 ? std::max((sc * scx - scc * sx) / det, 0.0) : 0.0;
  min = dmin > 0 ? static_cast<int>(std::lrint(std::min(offset / dmin, 63.0))) : 0;
  const double step = (scx + dmin * min * sc) / scc;  // the best one for the rounded offset
  scale = static_cast<int>(std::lrint(std::clamp(step / d, 0.0, 63.0)));
  return true;
}

Q4Fit best_q4(const float* x, double d, double dmin, int scale, int min) noexcept {
  const auto w = weights_of<kQ4>(x);
  Q4Fit best = fit_q4(x, w, d, dmin, scale, min);
  for (const int start : {scale, scale - 1, scale - 2}) {  // narrower grids cut extremes and serve the many
    Q4Fit now = fit_q4(x, w, d, dmin, start, min);
    for (int round = 0; round < kRounds; ++round) {
      if (now.error < best.error) best = now;
      int next_scale = 0, next_min = 0;
      if (!solve_q4(x, w, d, dmin, now, next_scale, next_min) || (next_scale == now.scale && next_min == now.min)) break;
      now = fit_q4(x, w, d, dmin, next_scale, next_min);
    }
    if (now.error < best.error) best = now;
  }
  return best;
}

void pack_scale_mins(const std::array<Q4Fit, 8>& fits, std::byte* p) noexcept {
  for (size_t j = 0; j < 4; ++j) {
    const Q4Fit &a = fits[j], &b = fits[j + 4];
    p[j] = static_cast<std::byte>(a.scale | b.scale >> 4 << 6);
    p[j + 4] = static_cast<std::byte>(a.min | b.min >> 4 << 6);
    p[j + 8] = static_cast<std::byte>((b.scale & 15) | (b.min & 15) << 4);
  }
}

int ceil_div(double a, double b) noexcept { return b > 0 ? static_cast<int>(std::min(std::ceil(a / b), 63.0)) : 0; }

void encode_q4_block(const float* x, std::byte* b) noexcept {
  std::array<double, 8> hi{}, min{};
  double most_min = 0, most_step = 0;
  for (size_t j = 0; j < 8; ++j) {
    const auto [low, high] = std::minmax_element(x + kQ4 * j, x + kQ4 * (j + 1));
    hi[j] = *high, min[j] = std::max(0.0, -static_cast<double>(*low));
    most_min = std::max(most_min, min[j]);
  }
  const uint16_t dmin_bits = most_min > 0 ? half_at_least(most_min / 63) : 0;
  const double dmin = float16_to_float32(dmin_bits);
  const auto covering_step = [&](size_t j) { return std::max(0.0, (hi[j] + dmin * ceil_div(min[j], dmin)) / 15); };
  for (size_t j = 0; j < 8; ++j) most_step = std::max(most_step, covering_step(j));
  const uint16_t d_bits = most_step > 0 ? half_at_least(most_step / 63) : 0;
  const double d = float16_to_float32(d_bits);

  std::array<Q4Fit, 8> fits;
  for (size_t j = 0; j < 8; ++j) fits[j] = best_q4(x + kQ4 * j, d, dmin, ceil_div(covering_step(j), d), ceil_div(min[j], dmin));
  put_half(b, d_bits);
  put_half(b + 2, dmin_bits);
  pack_scale_mins(fits, b + 4);
  for (size_t group = 0; group < 4; ++group)
    for (size_t l = 0; l < 32; ++l)
      b[16 + 32 * group + l] = static_cast<std::byte>(fits[2 * group].codes[l] | fits[2 * group + 1].codes[l] << 4);
}

// ---- Q6_K: 16 sub-blocks of 16; x ~ d * scale * code, code from -32 to 31, scale of either sign ----

constexpr int kQ6 = 16;
using Q6Fit = Fit<kQ6>;

Q6Fit fit_q6(const float* x, const std::array<double, kQ6>& w, double d, int scale) noexcept {
  Q6Fit fit{std::clamp(scale, -128, 127), 0, {}, 0};
  const double step = d * fit.scale;
  for (size_t i = 0; i < kQ6; ++i) {
    const double code = step != 0 ? std::clamp(x[i] / step, -32.0, 31.0) : 0.0;
    fit.codes[i] = static_cast<int>(std::lrint(code));
    const double rest = x[i] - step * fit.codes[i];
    fit.error += w[i] * rest * rest;
  }
  return fit;
}

Q6Fit best_q6(const float* x, double d, int scale) noexcept {
  const auto w = weights_of<kQ6>(x);
  Q6Fit best = fit_q6(x, w, d, scale);
  for (const int start : {scale, -scale, scale - 1, 1 - scale, scale - 2, 2 - scale}) {
    Q6Fit now = fit_q6(x, w, d, start);
    for (int round = 0; round < kRounds; ++round) {
      if (now.error < best.error) best = now;
      double cc = 0, cx = 0;
      for (size_t i = 0; i < kQ6; ++i) cc += w[i] * now.codes[i] * now.codes[i], cx += w[i] * now.codes[i] * x[i];
      if (cc <= 0 || d <= 0) break;
      const auto next = static_cast<int>(std::lrint(std::clamp(cx / cc / d, -128.0, 127.0)));
      if (next == now.scale) break;
      now = fit_q6(x, w, d, next);
    }
    if (now.error < best.error) best = now;
  }
  return best;
}

void encode_q6_block(const float* x, std::byte* b) noexcept {
  std::array<double, 16> amax{};
  for (size_t i = 0; i < kSuperBlock; ++i) amax[i / kQ6] = std::max(amax[i / kQ6], static_cast<double>(std::abs(x[i])));
  const double most = *std::max_element(amax.begin(), amax.end());
  const uint16_t d_bits = most > 0 ? half_at_least(most / 31 / 127) : 0;
  const double d = float16_to_float32(d_bits);
  std::fill_n(b, 192, std::byte{});
  put_half(b + 208, d_bits);
  for (size_t sub = 0; sub < 16; ++sub) {
    const int covering = d > 0 ? static_cast<int>(std::min(std::ceil(amax[sub] / 31 / d), 127.0)) : 0;
    const Q6Fit fit = best_q6(x + kQ6 * sub, d, covering);
    b[192 + sub] = static_cast<std::byte>(static_cast<int8_t>(fit.scale));
    const size_t half = sub / 8, quarter = sub % 8 / 2, part = sub % 2;
    for (size_t l = 0; l < kQ6; ++l) {
      const int code = fit.codes[l] + 32;
      b[64 * half + 32 * (quarter % 2) + 16 * part + l] |= static_cast<std::byte>((code & 15) << (quarter < 2 ? 0 : 4));
      b[128 + 32 * half + 16 * part + l] |= static_cast<std::byte>(code >> 4 << (2 * quarter));
    }
  }
}

}  // namespace

void encode_q4_k(const float* x, int64_t count, std::byte* b) noexcept {
  for (; count > 0; --count, x += kSuperBlock, b += 144) encode_q4_block(x, b);
}

void encode_q6_k(const float* x, int64_t count, std::byte* b) noexcept {
  for (; count > 0; --count, x += kSuperBlock, b += 210) encode_q6_block(x, b);
}

}  // namespace switchyard::io
