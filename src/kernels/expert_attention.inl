#include "kernels/expert_attention.h"
#include "kernels/softmax_row.inl"

namespace switchyard::kernels::SW_ISA {
namespace {

// n <= kLanes elements; the other lanes are 0.
inline Floats load_upto(const float* p, int64_t n) { return n >= kLanes ? load(p) : load_first(p, n); }

inline void add_upto(float* p, Floats x, int64_t n) {
  if (n >= kLanes) store(p, load(p) + x);
  else store_first(p, load_first(p, n) + x, n);
}

// exp(q k_j - largest over j), 0 in the lanes behind the last expert.
inline Floats weights(Floats q, Floats k, Floats largest, int64_t n) {
  const Floats w = exp_fast(q * k - largest);
  return n >= kLanes ? w : select(lane_index() < static_cast<int32_t>(n), w, Floats{});
}

struct Extremes {
  float least, most;
  // The largest q k_j.
  [[nodiscard]] float largest(float q) const { return q >= 0 ? q * most : q * least; }
};

inline Extremes extremes(int64_t experts, const float* k) {
  float least = k[0];
  for (int64_t j = 1; j < experts; ++j) least = k[j] < least ? k[j] : least;
  return {least, row_max(k, experts)};
}

inline void forward(int64_t experts, const float* q, const float* k, const float* v, float* z) {
  const Extremes keys = extremes(experts, k);
  for (int64_t i = 0; i < experts; ++i) {
    const Floats query = splat(q[i]), largest = splat(keys.largest(q[i]));
    Floats sum{}, weighted{};
    for (int64_t j = 0; j < experts; j += kLanes) {
      const Floats w = weights(query, load_upto(k + j, experts - j), largest, experts - j);
      sum += w;
      weighted += w * load_upto(v + j, experts - j);
    }
    z[i] = sum_lanes(weighted) / sum_lanes(sum);
  }
}

// dv_j = sum_i A_ij dz_i,   ds_ij = A_ij (v_j - z_i) dz_i,   dq_i = sum_j ds_ij k_j,   dk_j = sum_i ds_ij q_i
inline void backward(int64_t experts, const float* q, const float* k, const float* v, const float* z, const float* dz, float* dq, float* dk, float* dv) {
  const Extremes keys = extremes(experts, k);
  for (int64_t j = 0; j < experts; ++j) dk[j] = dv[j] = 0.0f;
  for (int64_t i = 0; i < experts; ++i) {
    const Floats query = splat(q[i]), largest = splat(keys.largest(q[i]));
    Floats sum{};
    for (int64_t j = 0; j < experts; j += kLanes) sum += weights(query, load_upto(k + j, experts - j), largest, experts - j);
    const Floats share = splat(dz[i] / sum_lanes(sum)), mean = splat(z[i]);
    Floats slope{};
    for (int64_t j = 0; j < experts; j += kLanes) {
      const int64_t n = experts - j;
      const Floats key = load_upto(k + j, n), a = weights(query, key, largest, n) * share, ds = a * (load_upto(v + j, n) - mean);
      slope += ds * key;
      add_upto(dk + j, ds * query, n);
      add_upto(dv + j, a, n);
    }
    dq[i] = sum_lanes(slope);
  }
}

}  // namespace

void expert_attention_forward(int64_t tokens, int64_t experts, const float* qkv, float* z) noexcept {
#pragma omp parallel for schedule(static) if (tokens * experts * experts > 16384)
  for (int64_t t = 0; t < tokens; ++t) {
    const float* q = qkv + t * 3 * experts;
    forward(experts, q, q + experts, q + 2 * experts, z + t * experts);
  }
}

void expert_attention_backward(int64_t tokens, int64_t experts, const float* qkv, const float* z, const float* dz, float* dqkv) noexcept {
#pragma omp parallel for schedule(static) if (tokens * experts * experts > 16384)
  for (int64_t t = 0; t < tokens; ++t) {
    const float* q = qkv + t * 3 * experts;
    float* dq = dqkv + t * 3 * experts;
    backward(experts, q, q + experts, q + 2 * experts, z + t * experts, dz + t * experts, dq, dq + experts, dq + 2 * experts);
  }
}

}  // namespace switchyard::kernels::SW_ISA
