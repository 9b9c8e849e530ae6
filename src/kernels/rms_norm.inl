#include "kernels/rms_norm.h"
#include "kernels/scratch.h"
#include "kernels/simd.h"

namespace switchyard::kernels::SW_ISA {
namespace {

constexpr int64_t kTokensPerChunk = 32;  // of the weight gradient: one partial sum per chunk, added in order

// body(d, load, store) for every vector of a row, the last one partial.
template <class Body>
inline void for_vectors(int64_t width, Body body) {
  int64_t d = 0;
  for (; d + kLanes <= width; d += kLanes)
    body([d](const float* p) { return load(p + d); }, [d](float* p, Floats x) { store(p + d, x); });
  if (const int64_t rest = width - d; rest > 0)
    body([d, rest](const float* p) { return load_first(p + d, rest); },
         [d, rest](float* p, Floats x) { store_first(p + d, x, rest); });
}

// One row: adds its part of the weight gradient to dweight and writes dx = r (w dy - x r^2 <w dy, x> / width) + dsum.
inline void backward_row(int64_t width, const float* x, const float* weight, float r, const float* dy, const float* dsum,
                         float* dx, float* dweight) {
  Floats dot{};
  for_vectors(width, [&](auto get, auto) { dot += get(x) * (get(weight) * get(dy)); });
  const float pull = r * r * sum_lanes(dot) / static_cast<float>(width);
  for_vectors(width, [&](auto get, auto put) {
    const Floats in = get(x), d = get(dy);
    put(dweight, get(dweight) + d * in * r);
    const Floats direct = dsum ? get(dsum) : Floats{};
    put(dx, direct + (get(weight) * d - in * pull) * r);
  });
}

}  // namespace

void add_rms_norm_forward(int64_t tokens, int64_t width, const float* x, const float* residual, const float* weight,
                          float eps, float* sum, float* y, float* inverse_rms) noexcept {
#pragma omp parallel for schedule(static) if (tokens * width > 16384)
  for (int64_t t = 0; t < tokens; ++t) {
    const float* in = x + t * width;
    Floats squares{};
    if (residual) {
      const float* other = residual + t * width;
      float* total = sum + t * width;
      for_vectors(width, [&](auto get, auto put) {
        const Floats value = get(in) + get(other);
        put(total, value);
        squares += value * value;
      });
      in = total;
    } else {
      for_vectors(width, [&](auto get, auto) { squares += get(in) * get(in); });
    }
    const float r = 1.0f / __builtin_sqrtf(sum_lanes(squares) / static_cast<float>(width) + eps);
    float* out = y + t * width;
    for_vectors(width, [&](auto get, auto put) { put(out, get(weight) * (get(in) * r)); });
    if (inverse_rms) inverse_rms[t] = r;
  }
}

void rms_norm_backward(int64_t tokens, int64_t width, const float* x, const float* weight, const float* inverse_rms,
                       const float* dy, const float* dsum, float* dx, float* dweight) noexcept {
  const int64_t chunks = (tokens + kTokensPerChunk - 1) / kTokensPerChunk;
  float* partial = thread_scratch(ScratchUse::shared, chunks * width);  // [chunks, width]
#pragma omp parallel for schedule(static) if (tokens * width > 16384)
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    float* sum = partial + chunk * width;
    for (int64_t d = 0; d < width; ++d) sum[d] = 0.0f;
    const int64_t end = (chunk + 1) * kTokensPerChunk < tokens ? (chunk + 1) * kTokensPerChunk : tokens;
    for (int64_t t = chunk * kTokensPerChunk; t < end; ++t)
      backward_row(width, x + t * width, weight, inverse_rms[t], dy + t * width, dsum ? dsum + t * width : nullptr,
                   dx + t * width, sum);
  }
  for (int64_t d = 0; d < width; ++d) dweight[d] = 0.0f;
  for (int64_t chunk = 0; chunk < chunks; ++chunk)
    for (int64_t d = 0; d < width; ++d) dweight[d] += partial[chunk * width + d];
}

}  // namespace switchyard::kernels::SW_ISA
